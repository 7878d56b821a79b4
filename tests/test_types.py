"""What images, names and labels may be."""

import numpy as np
import pytest

import smalti
from smalti.errors import SourceError
from smalti.types import ImageSet, check_name, raise_it


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 2), (2, 4, 5, 3), (2, 4, 5, 4)])
def test_images_of_all_colour_modes_are_images(shape):
    images = ImageSet(np.zeros(shape, np.uint8), ("a", "b"), (1, "x"))
    assert images.shape == (*shape[1:], 1)[:3]
    assert (len(images), images[1:].names, images[1:].labels) == (2, ("b",), ("x",))


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((2, 4), np.uint8, "must be uint8 of shape"),
        ((2, 4, 5, 5), np.uint8, "must be uint8 of shape"),
        ((2, 4, 5, 1), np.uint16, "must be uint8 of shape"),
        ((2, 4, 5, 1, 1), np.uint8, "must be uint8 of shape"),
        ((2, 4, 5), np.uint16, "must be uint8 of shape"),
        ((0, 4, 5), np.uint8, "no images"),
        ((2, 0, 5), np.uint8, "no images"),
    ],
)
def test_other_arrays_are_refused(shape, kind, message):
    with pytest.raises(SourceError, match=message):
        ImageSet(np.zeros(shape, kind))


def test_a_single_channel_is_gray(digits):
    images = ImageSet(digits[..., None])
    assert (images.shape, images.pixels.shape) == ((28, 28, 1), digits.shape)
    assert (smalti.decode(smalti.encode(digits[0][..., None], max_error=0)) == digits[0]).all()


def test_names_and_labels_are_one_to_each_image():
    for column in ({"names": ("a",)}, {"names": ()}, {"labels": (1, 2, 3)}):
        with pytest.raises(SourceError, match="for 2 images"):
            ImageSet(np.zeros((2, 4, 5), np.uint8), **column)


@pytest.mark.parametrize(
    ("name", "message"),
    [("x" * 4097, "1 to 4096"), ("", "1 to 4096"), ("b\0c", "no zero byte"), ("\udcfc", "not Unicode")],
)
def test_names_that_a_file_cannot_keep_are_refused(name, message):
    with pytest.raises(SourceError, match=message):
        check_name(name)


def test_an_error_that_is_told_is_raised_unless_asked_otherwise():
    with pytest.raises(SourceError, match="why"):
        raise_it(SourceError("why"))
