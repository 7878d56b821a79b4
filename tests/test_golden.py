"""Files of format versions 1 and 2 decode for ever to what they decoded to when they were written."""

import hashlib

import numpy as np
import pytest
from helpers import ROOT
from independent_reader import SpecError, carried, read, single_check

import smalti
from smalti.archive.reader import Contents
from smalti.archive.reading.places import Places
from smalti.util.binary import hash64

FOLDER = ROOT / "tests" / "golden"
FILES = sorted(FOLDER.glob("*.smalti"))
golden = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def expected(path):
    with np.load(path.with_suffix(".npz")) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays))]


@golden
def test_a_golden_file_decodes_to_the_same_pixels(path):
    with smalti.open(path) as archive:
        images = list(archive)
    assert len(images) == len(expected(path))
    for x, y in zip(images, expected(path), strict=True):
        assert x.shape == y.shape
        assert (x == y).all()
    assert smalti.verify(path, deep=True) == []


@golden
def test_a_reader_that_knows_the_specification_alone_reads_the_same(path):
    """Header, index, checksums, names, labels, metadata and what the order of images carries."""
    data = path.read_bytes()
    file = read(data)
    contents = Contents(path)
    index = contents.index
    assert file.count == len(expected(path))
    assert file.names == (contents.names() or ())
    profiles = contents.profiles() or (None,) * file.count
    assert (*file.profiles, *[None] * (file.count - len(file.profiles))) == profiles
    if file.single is None:
        listed = {*file.shapes, *((h, w, mode) for _, mode, h, w in file.kinds if mode)}
        assert listed == contents.shapes()
    contents.storage.close()
    if file.single is not None:
        assert single_check(data, expected(path)[0].tobytes())
        return
    assert [model for model, _ in file.models] == [model.id for model in index.models]
    assert [bundle is not None for _, bundle in file.models] == [model.offset > 0 for model in index.models]
    assert file.kinds == tuple(map(tuple, index.kinds))
    assert [tuple(block.entry) for block in file.blocks] == list(map(tuple, index.blocks))
    with smalti.open(path) as archive:
        assert file.labels == (archive.labels or ())
        assert (file.metadata or {}) == archive.metadata
        assert file.places == tuple(archive.contents.listing.stored(np.arange(file.count)).tolist())
        stored = dict(zip(file.places, expected(path), strict=True))  # some may be those of images that were removed
        everywhere = Places(index, archive.contents.order(), archive.contents.listing)
        blocks, _ = everywhere.of_stored(np.arange(index.stored))
        assert [file.kinds[i] for i in file.order] == [
            tuple(index.kinds[index.blocks[block].kind]) for block in blocks.tolist() if file.order
        ]
        for number, block in enumerate(file.blocks):
            images = [stored.get(i) for i in np.flatnonzero(blocks == number).tolist()]
            if block.entry.offset and all(image is not None for image in images):
                raw = [x.tobytes() for x in images]
                hashes = [hash64(*(raw[row] for row in part.rows)) for part in block.parts]
                assert block.pixels == (hashes[0] if block.head else hash64(*hashes))
                for part in block.parts:
                    assert part.images in (None, [raw[row] for row in part.rows])
        for first, opened, count in file.carriers:
            keys = [stored[i].tobytes() for i, mine in enumerate(blocks.tolist()) if mine < first + opened]
            numbers = range(first + opened, first + opened + count)
            records = carried(keys, [file.blocks[i].entry.size for i in numbers])
            assert records == [archive.contents.record(i) for i in numbers]


def test_the_independent_reader_notices_damage():
    data = next(path for path in FILES if path.stem.endswith("mixed-texts")).read_bytes()
    for at in range(0, len(data), 3):
        with pytest.raises(SpecError):
            read(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


def test_no_golden_file_was_ever_rewritten():
    """Every file is listed with its hash, which `scripts/golden` writes when it makes the file and never again."""
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("v*")}
    assert len(listed) == len(lines)
    assert listed == there


def test_there_are_golden_files_of_each_feature():
    kinds = {path.stem.partition("-")[2] for path in FILES}
    assert kinds >= {"latents", "pixels", "fallback", "lossless", "largest-error", "noise", "embedded", "unordered"}
    assert kinds >= {"webp", "mixed-modes", "gray-alpha", "profiles", "single-profile", "single-alpha", "no-model"}
    assert kinds >= {"single-webp", "grown", "selected", "joined"}
    assert kinds >= {"mixed-texts", "mixed-numbers", "mixed-lists", "appended", "merged", "single", "single-named"}


def test_the_independent_reader_is_short_and_knows_nothing_of_smalti():
    source = (ROOT / "tests" / "independent_reader.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 560
    assert "import smalti" not in source
    assert "from smalti" not in source


@pytest.mark.parametrize("name", ["v1-noise", "v1-single"])
def test_the_hexadecimal_dumps_of_the_specification_are_the_golden_files(name):
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    dump = text.partition(f"`tests/golden/{name}.smalti`")[2].split("```")[1]
    lines = [line for line in dump.strip().splitlines() if not line.startswith("#")]
    assert bytes.fromhex("".join(line[:47] for line in lines)) == (FILES[0].parent / f"{name}.smalti").read_bytes()
