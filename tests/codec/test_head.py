"""The head of a payload: what it offers comes back, and what it claims is held against the images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smalti.codec.batching import ENTRIES, RAW
from smalti.codec.block import ByLatents, ByMixing, ByPixels, ByTransform, ByWebP, Fallback
from smalti.codec.payload.head import MIXING, TRANSFORM, WEBP, Head, describe_payload
from smalti.container import format as container
from smalti.errors import CorruptError
from smalti.model.empty_model import EMPTY_ID
from smalti.model.masked_mlp import POINTS
from smalti.model.pixel_prior import MAX_ERROR
from smalti.model.transform.reduction import FINER, LAST_LEVEL
from smalti.model.transform.transform import LEVELS

any_way = st.one_of(
    st.builds(ByLatents, st.integers(0, POINTS - 1)),
    st.builds(ByPixels, st.integers(0, MAX_ERROR)),
    st.builds(ByMixing, st.integers(0, MAX_ERROR)),
    st.builds(ByTransform, st.integers(0, LEVELS - 1)),
    st.builds(ByTransform, st.integers(0, LAST_LEVEL), st.integers(1, len(FINER) - 1)),
    st.builds(Fallback, st.binary(max_size=4)),
    st.builds(ByWebP, st.binary(max_size=4)),
)


@given(st.lists(any_way, min_size=1, max_size=20), st.booleans())
def test_the_ways_of_images_come_back(ways, post_filtered):
    choices, head, records = Head.of(ways)
    data = head.pack(post_filtered=post_filtered)
    again = Head.unpack(data + b"more", len(ways))
    assert again.size == len(data)
    assert again.post_filtered == (post_filtered and bool(head.errors))
    assert again.ways_of(choices, records) == ways


def test_the_container_has_the_same_constants_although_it_does_not_know_codec_and_model():
    assert (container.RAW, container.NEW_FLAGS, container.EMPTY_MODEL) == (
        RAW,
        WEBP | ENTRIES | MIXING | TRANSFORM,
        EMPTY_ID,
    )


@given(st.lists(any_way, min_size=1, max_size=20), st.booleans())
def test_the_container_knows_an_addition_of_version_2_from_the_head_alone(ways, post_filtered):
    _, head, _ = Head.of(ways)
    data = head.pack(post_filtered=post_filtered)
    kind = container.Kind(0, 1, 28, 28)
    assert container.needs_extended(kind, data) == any(isinstance(way, ByWebP | ByMixing | ByTransform) for way in ways)
    assert not container.needs_extended(kind, bytes([RAW]) + data)


def test_records_that_no_image_takes_are_refused():
    for kind in (Fallback, ByWebP):
        choices, head, _ = Head.of([kind(b"a"), ByPixels(3)])
        for records in ([], [b"a", b"b"]):
            with pytest.raises(CorruptError, match="without model"):
                head.ways_of(choices, records)
    with pytest.raises(CorruptError, match="without model"):
        head.ways_of(np.array([1, 1]), [b"a"])


@pytest.mark.parametrize(
    ("ways", "post_filtered", "words"),
    [
        ([ByLatents(3), ByLatents(5)], False, "by latents, operating points 3 to 5 of 64"),
        ([ByPixels(0)], False, "by pixels, without loss"),
        ([ByPixels(0), ByPixels(2)], False, "by pixels, no pixel off by more than 2"),
        ([ByPixels(4)], True, "by pixels, in steps of 9"),
        ([ByPixels(4), ByPixels(6)], True, "by pixels, in steps of 9 to 13"),
        ([ByTransform(20)], False, "by transform, level 20 of 57"),
        (
            [ByTransform(30, 1), ByTransform(31, 3)],
            False,
            "by transform, levels 30 to 31 of 57, at 2/8 to 6/8 of their sides",
        ),
        ([ByTransform(44, 2)], False, "by transform, level 44 of 57, at 4/8 of their sides"),
        ([ByWebP(b"a"), Fallback(b"b")], True, "by the fallback; as WebP lossless bitstreams"),
        ([Fallback(b"a"), ByLatents(1)], True, "by latents, operating points 1 to 1 of 64; by the fallback"),
    ],
)
def test_a_payload_is_described_in_words(ways, post_filtered, words):
    _, head, records = Head.of(ways)
    assert describe_payload(head.pack(post_filtered=post_filtered) + b"".join(records), len(ways)) == words


def test_images_as_they_are_are_described():
    assert describe_payload(bytes([RAW, 1, 2]), 2) == "as they are"
