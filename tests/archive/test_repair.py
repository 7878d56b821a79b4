"""Verify and repair."""

import numpy as np
import pytest
from typer.testing import CliRunner

import smalti
from smalti.cli import app
from smalti.container import format as fmt
from smalti.errors import CorruptError, ModelError, NotSmaltiError, UnknownModelError, VersionError

rng = np.random.default_rng(5)
SHAPES = [(7, 9), (5, 6, 3), (7, 9), (4, 4, 4), (7, 9)] * 4
MIXED = [rng.integers(0, 256, shape, dtype=np.uint8) // 9 for shape in SHAPES]
NAMES = tuple(f"a/{i}.png" for i in range(20))


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    path = tmp_path_factory.mktemp("twenty") / "x.smalti"
    parts = [smalti.ImageSet(x[None], (name,), (i,)) for i, (x, name) in enumerate(zip(MIXED, NAMES, strict=True))]
    source = smalti.Source(parts, 20, named=True, labelled=True)
    smalti.pack(source, path, model="mnist", max_error=0, packing=smalti.Packing(3, metadata={"a": 1}))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, twenty):
    """Twenty images of three kinds, in blocks of three, with names and labels."""
    (tmp_path / "x.smalti").write_bytes(twenty)
    return tmp_path / "x.smalti"


def check_saved(saved, lost=()):
    """All images but the lost ones are there, in order, with their names and labels."""
    left = [i for i in range(20) if i not in lost]
    with smalti.open(saved) as archive:
        assert archive.names == tuple(NAMES[i] for i in left)
        assert archive.labels == tuple(left)
        assert archive.metadata == {"a": 1}
        for x, i in zip(archive, left, strict=True):
            assert x.shape == MIXED[i].shape
            assert (x == MIXED[i]).all()
    assert smalti.verify(saved, deep=True) == []


def images_of(path, block):
    with smalti.open(path) as archive:
        blocks, _ = archive.places(np.arange(20))
        return np.flatnonzero(blocks == block).tolist()


def test_a_whole_file_has_nothing_wrong(path, tmp_path):
    assert smalti.verify(path) == smalti.verify(path, deep=True) == []
    smalti.repair(path, tmp_path / "y.smalti")
    check_saved(tmp_path / "y.smalti")


@pytest.mark.parametrize("cut", [1, 10, 30, 150])
def test_all_is_saved_without_trailer_and_index(path, tmp_path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(smalti.verify(path)) == 1
    done = smalti.repair(path, tmp_path / "y.smalti")
    assert done.images == 20
    check_saved(tmp_path / "y.smalti")


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("block", range(8))
def test_a_damaged_block_costs_its_images_alone(path, tmp_path, block, with_index):
    lost = images_of(path, block)
    data = bytearray(path.read_bytes())
    with smalti.open(path) as archive:
        entry = archive.contents.index.blocks[block]
    data[entry.offset + entry.size - 1] ^= 1
    path.write_bytes(data if with_index else data[:-9])
    if with_index:
        assert [f"block {block}" in line for line in smalti.verify(path)] == [True]
    smalti.repair(path, tmp_path / "y.smalti")
    check_saved(tmp_path / "y.smalti", lost)


def test_a_damaged_header_costs_nothing(path, tmp_path):
    data = path.read_bytes()
    path.write_bytes(bytes(40 - 19) + data[21:])
    smalti.repair(path, tmp_path / "y.smalti")
    check_saved(tmp_path / "y.smalti")


def test_lost_names_are_replaced(path, tmp_path):
    data = bytearray(path.read_bytes())
    with smalti.open(path) as archive:
        names = next(entry for entry in archive.contents.index.sections if entry.code == 2)
    data[names.offset + names.size - 1] ^= 1
    path.write_bytes(data)
    assert len(smalti.verify(path)) == 1
    smalti.repair(path, tmp_path / "y.smalti")
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert archive.names == tuple(f"lost-{i:07d}" for i in range(20))
        assert archive.labels == tuple(range(20))


def test_what_holds_nothing_is_one_error(tmp_path):
    (tmp_path / "x.smalti").write_bytes(rng.bytes(5000))
    with pytest.raises(CorruptError, match="nothing can be saved"):
        smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti")
    assert not (tmp_path / "y.smalti").exists()
    with pytest.raises(NotSmaltiError):
        smalti.verify(tmp_path / "x.smalti")


def test_only_a_deep_look_sees_pixels_that_are_not_what_was_packed(path, tmp_path, monkeypatch):
    import smalti.rate.target

    real = smalti.rate.target.hash64
    monkeypatch.setattr(smalti.rate.target, "hash64", lambda *parts: real(*parts, b"another"))
    smalti.pack(MIXED, tmp_path / "y.smalti", max_error=0, packing=smalti.Packing(16))
    assert smalti.verify(tmp_path / "y.smalti") == []
    with smalti.open(tmp_path / "y.smalti") as archive:
        blocks = len(archive.contents.index.blocks)
    assert len(smalti.verify(tmp_path / "y.smalti", deep=True)) == blocks


def test_a_file_of_one_image_is_verified_too(tmp_path):
    (tmp_path / "x.smalti").write_bytes(data := smalti.encode(MIXED[1], max_error=0))
    assert smalti.verify(tmp_path / "x.smalti") == []
    (tmp_path / "x.smalti").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert len(smalti.verify(tmp_path / "x.smalti")) == 1


@pytest.fixture
def apart(monkeypatch):
    """What is appended stays in sections of its own, even where they are small."""
    monkeypatch.setattr("smalti.container.growing.section_join.fits", lambda *_: False)


def damage(path, code, which=0):
    """Flip a bit in one of the sections of that code."""
    data = bytearray(path.read_bytes())
    with smalti.open(path) as archive:
        entry = [entry for entry in archive.contents.index.sections if entry.code == code][which]
    data[entry.offset + entry.size - 1] ^= 1
    path.write_bytes(data)


def test_no_image_gets_the_name_of_another_when_the_order_is_lost(path, tmp_path):
    damage(path, fmt.ORDER)
    done = smalti.repair(path, tmp_path / "y.smalti")
    assert any("order of the images is lost" in note for note in done.notes)
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert len(archive) == 20
        assert all(name.startswith("lost-") for name in archive.names)
        assert set(archive.labels) == {-1}


@pytest.mark.usefixtures("apart")
def test_an_order_with_a_gap_counts_up_to_the_gap(path, tmp_path):
    parts = [smalti.ImageSet(x[None], (f"b/{i}.png",), (i,)) for i, x in enumerate(MIXED)]
    smalti.append(path, smalti.Source(parts, 20, named=True, labelled=True), max_error=0)
    damage(path, fmt.ORDER, 0)
    smalti.repair(path, tmp_path / "y.smalti")
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert all(name.startswith("lost-") for name in archive.names)


@pytest.mark.usefixtures("apart")
def test_names_that_stand_in_for_lost_ones_are_new(path, tmp_path):
    damage(path, fmt.NAMES)
    smalti.repair(path, tmp_path / "y.smalti")
    parts = [smalti.ImageSet(MIXED[0][None], ("x",), (1,))]
    smalti.append(tmp_path / "y.smalti", smalti.Source(parts, 1, named=True, labelled=True), max_error=0)
    damage(tmp_path / "y.smalti", fmt.NAMES, 1)
    smalti.repair(tmp_path / "y.smalti", tmp_path / "z.smalti")
    with smalti.open(tmp_path / "z.smalti") as archive:
        assert len(set(archive.names)) == 21


def test_a_whole_file_of_one_image_is_not_for_repair(tmp_path):
    (tmp_path / "x.smalti").write_bytes(smalti.encode(MIXED[1], max_error=0))
    with pytest.raises(CorruptError, match="smalti verify"):
        smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti")


def test_an_order_is_not_taken_for_that_of_earlier_images(tmp_path):
    """The order of the first images is lost, and so are the blocks of all that the second order speaks of."""

    def source(first, sizes):
        parts = [
            smalti.ImageSet(np.full((1, s, s), first + i, np.uint8), (f"img{first + i}",), (first + i,))
            for i, s in enumerate(sizes)
        ]
        return smalti.Source(parts, len(parts), named=True, labelled=True)

    path = tmp_path / "x.smalti"
    several = smalti.Packing(8)  # else images of few sizes share mixed blocks, and there is no order
    smalti.pack(source(0, [4, 5] * 5), path, model="mnist", max_error=0, packing=several)
    smalti.append(path, source(10, [4, 4, 5] * 10), model="mnist", max_error=0, packing=several)
    with smalti.open(path) as archive:
        later = archive.contents.index.blocks[2:]
    damage(path, fmt.ORDER, 0)
    data = bytearray(path.read_bytes())
    for block in later:
        data[block.offset + block.size - 1] ^= 1
    path.write_bytes(data)
    assert smalti.repair(path, tmp_path / "y.smalti").images == 10
    with smalti.open(tmp_path / "y.smalti") as archive:
        for image, name in zip(archive, archive.names, strict=True):
            assert name.startswith("lost-") or name == f"img{image[0, 0]}"


def noise(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.fixture
def grown(tmp_path, digits):
    """Noise in a raw block, then digits in another one, of a model that is not the default; appended to once."""
    path = tmp_path / "grown.smalti"
    x = np.concatenate([noise(2, 1), digits[:10]])
    smalti.pack(x, path, model="fashion", max_error=0, packing=smalti.Packing(2))
    smalti.append(path, digits[10:15], max_error=0)
    return path, np.concatenate([x, digits[10:15]])


@pytest.mark.parametrize(("head", "cut"), [(0, 20), (21, 20), (21, 0)])
def test_what_is_saved_has_the_model_that_decodes_it(grown, tmp_path, head, cut):
    path, x = grown
    data = path.read_bytes()
    path.write_bytes(bytes(head) + data[head : len(data) - cut])
    notes = " ".join(smalti.repair(path, tmp_path / "y.smalti").notes)
    assert ("fashion is taken" in notes) == bool(head and cut)
    assert smalti.verify(tmp_path / "y.smalti", deep=True) == []
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert archive.contents.model(0).name == "fashion"
        assert (archive[:] == x).all()


def test_a_model_that_no_block_needs_is_any(tmp_path):
    smalti.pack(noise(3, 2), tmp_path / "x.smalti", model="fashion", max_error=0)
    (tmp_path / "x.smalti").write_bytes(bytes(21) + (tmp_path / "x.smalti").read_bytes()[21:-20])
    smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti")
    assert smalti.verify(tmp_path / "y.smalti", deep=True) == []


def test_two_models_whose_ids_are_lost_stay_two(tmp_path, digits):
    """Else kinds that differ in the model alone would be one, and images change places."""
    one, two, both = (tmp_path / f"{name}.smalti" for name in ("one", "two", "both"))
    smalti.pack(noise(2, 3), one, model="fashion", max_error=0)
    smalti.pack(noise(2, 4), two, model="mnist", max_error=0)
    smalti.merge([one, two], both)
    both.write_bytes(bytes(21) + both.read_bytes()[21:-20])
    smalti.repair(both, tmp_path / "y.smalti")
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert len(archive.contents.index.models) == 2
        assert (archive[:] == np.concatenate([noise(2, 3), noise(2, 4)])).all()


def test_images_that_no_known_model_decodes_are_not_said_to_be_saved(toy, tmp_path, digits):
    smalti.pack(digits[:4], tmp_path / "x.smalti", model=toy, quality=20)
    data = (tmp_path / "x.smalti").read_bytes()
    (tmp_path / "x.smalti").write_bytes(bytes(21) + data[21:-20])
    with pytest.raises(UnknownModelError, match=r"x\.smalti: .*--model"):
        smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti")
    smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti", model=toy)
    assert smalti.verify(tmp_path / "y.smalti", deep=True, model=toy) == []
    (tmp_path / "x.smalti").write_bytes(data[:-20])
    notes = smalti.repair(tmp_path / "x.smalti", tmp_path / "z.smalti").notes
    assert any("neither known here nor in the file" in note for note in notes)


@pytest.mark.parametrize("form", [0x11, 0x03, 0x00, 0x41])
@pytest.mark.parametrize("cut", [0, 20])
def test_blocks_are_believed_before_the_form_in_the_header(path, tmp_path, form, cut):
    data = bytearray(path.read_bytes())
    data[4] = form
    path.write_bytes(data[: len(data) - cut])
    (line,) = smalti.verify(path)
    assert "there are blocks" in line
    done = smalti.repair(path, tmp_path / "y.smalti")
    assert ("the index is whole" in done.notes) == (cut == 0)
    check_saved(tmp_path / "y.smalti")


def test_a_header_that_names_another_model_costs_nothing(path, tmp_path):
    data = bytearray(path.read_bytes())
    data[15] ^= 1
    path.write_bytes(data)
    assert "the index is whole" in smalti.repair(path, tmp_path / "y.smalti").notes
    check_saved(tmp_path / "y.smalti")


def test_another_version_is_not_for_repair(tmp_path):
    (tmp_path / "x.smalti").write_bytes(b"\x89SML\x03" + rng.bytes(500))
    with pytest.raises(VersionError, match="version 3"):
        smalti.repair(tmp_path / "x.smalti", tmp_path / "y.smalti")


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("code", [fmt.NAMES, fmt.LABELS])
def test_what_is_said_of_images_is_not_lost_in_silence(path, tmp_path, code):
    what = {fmt.NAMES: "names", fmt.LABELS: "labels"}[code]
    parts = [smalti.ImageSet(x[None], (f"b/{i}.png",), (i,)) for i, x in enumerate(MIXED)]
    smalti.append(path, smalti.Source(parts, 20, named=True, labelled=True), model="mnist", max_error=0)
    damage(path, code, 1)
    data = path.read_bytes()
    for cut in (0, 20):
        path.write_bytes(data[: len(data) - cut])
        notes = smalti.repair(path, tmp_path / "y.smalti", force=True).notes
        assert [note for note in notes if "lost:" in note] == [f"the {what} of 20 saved images are lost: 20 to 39"]


@pytest.mark.usefixtures("apart")
def test_metadata_are_not_lost_in_silence(path, tmp_path):
    damage(path, fmt.METADATA)
    assert "the metadata are lost" in smalti.repair(path, tmp_path / "y.smalti").notes
    smalti.pack(MIXED, path, max_error=0, packing=smalti.Packing(metadata={"a": 1}), force=True)
    smalti.append(path, MIXED, max_error=0, packing=smalti.Packing(metadata={"a": 2}))
    damage(path, fmt.METADATA, 1)
    assert "older ones" in smalti.repair(path, tmp_path / "y.smalti", force=True).notes[-1]
    with smalti.open(tmp_path / "y.smalti") as archive:
        assert archive.metadata == {"a": 1}


def test_how_many_images_are_lost_is_said_where_it_is_known(path, tmp_path):
    with smalti.open(path) as archive:
        last = max(entry.offset for entry in archive.contents.index.blocks)
    lost = len(images_of(path, 7))
    data = path.read_bytes()
    path.write_bytes(data[: last + 1] + bytes([data[last + 1] ^ 1]) + data[last + 2 :])
    assert f"{20 - lost} of 20 images are saved; {lost} are lost" in smalti.repair(path, tmp_path / "y.smalti").notes
    path.write_bytes(data[:last])
    notes = smalti.repair(path, tmp_path / "y.smalti", force=True).notes
    assert any("of at least" in note and "how many there were is not known" in note for note in notes)
    assert "no names or labels or ICC profiles or metadata were found; whether there were any is not known" in notes


def test_advice_to_repair_is_given_where_it_helps(path, tmp_path):
    def said(*arguments):
        found = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return found.output + found.stderr

    single = tmp_path / "single.smalti"
    single.write_bytes(data := smalti.encode(MIXED[1], max_error=0))
    single.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "smalti repair" not in said("verify", single)
    (tmp_path / "v3.smalti").write_bytes(b"\x89SML\x03" + rng.bytes(500))
    assert "smalti repair" not in said("verify", tmp_path / "v3.smalti")
    for at in (4, 60):
        torn = bytearray(path.read_bytes())
        torn[at] ^= 16
        (tmp_path / "torn.smalti").write_bytes(torn)
        assert "save what is whole: smalti repair" in said("verify", tmp_path / "torn.smalti")


def test_a_file_of_one_image_says_which_model_it_is_not_of(tmp_path, digits):
    (tmp_path / "x.smalti").write_bytes(smalti.encode(digits[0], quality=20))
    for work in (smalti.verify, smalti.open):
        with pytest.raises(ModelError, match="not with fashion"):
            work(tmp_path / "x.smalti", model="fashion")


def test_a_file_of_a_newer_version_is_not_called_damaged(path):
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\x03" + data[5:21] + b"\x02\x07" + data[21:])
    (wrong,) = smalti.verify(path)
    assert "install smalti 2.7 or newer" in wrong
    path.write_bytes(data[:4] + b"\x03" + data[5:])  # a flipped bit
    (wrong,) = smalti.verify(path)
    assert "damaged" in wrong


def cli(*arguments):
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return found.exit_code, found.output


def test_the_exit_code_of_repair_says_whether_all_is_saved_for_certain(path, tmp_path):
    whole = path.read_bytes()
    assert cli("repair", path, "-o", tmp_path / "y.smalti")[0] == 0
    damages = [lambda: path.write_bytes(whole[:-20]), *(lambda code=code: damage(path, code) for code in CODES)]
    damages.append(lambda: path.write_bytes(whole[:90] + bytes([whole[90] ^ 1]) + whole[91:]))  # of the first block
    for hurt in damages:
        path.write_bytes(whole)
        hurt()
        code, output = cli("repair", path, "-o", tmp_path / "y.smalti", "--force")
        assert (code, smalti.repair(path, tmp_path / "y.smalti", force=True).complete) == (1, False)
        assert "not all of the file is saved for certain" in output
        assert smalti.verify(tmp_path / "y.smalti", deep=True) == []
        assert cli("repair", tmp_path / "y.smalti", "-o", tmp_path / "z.smalti", "--force")[0] == 0


CODES = (fmt.NAMES, fmt.LABELS, fmt.METADATA, fmt.ORDER)


def with_profiles(path, profiles, shapes=SHAPES):
    """Write images of several kinds, with these profiles, in blocks of three."""
    parts = [
        smalti.ImageSet(MIXED[SHAPES.index(shape)][None], profiles=(profile,))
        for shape, profile in zip(shapes, profiles, strict=False)
    ]
    source = smalti.Source(parts, len(parts), named=False, labelled=False)
    smalti.pack(source, path, model="mnist", max_error=0, packing=smalti.Packing(3), force=True)
    return path.read_bytes()


def without_sections(data, *codes):
    """Return an archive of which the index and sections of these codes are damaged."""
    with smalti.open(data) as archive:
        hurt = [entry.offset for entry in archive.contents.index.sections if entry.code in codes]
    damaged = bytearray(data[:-20])
    for at in hurt:
        damaged[at + 9] ^= 1
    return bytes(damaged)


def test_profiles_are_not_lost_in_silence_without_the_index(tmp_path):
    path, output = tmp_path / "x.smalti", tmp_path / "y.smalti"
    profiles = [b"one", None, b"two", b"two", None] * 2

    def notes(data):
        path.write_bytes(data)
        return smalti.repair(path, output, force=True).notes

    data = with_profiles(path, profiles)
    assert not any("ICC profiles of" in note for note in notes(data[:-20]))
    with smalti.open(output) as archive:
        assert list(archive.profiles) == profiles
    assert "the ICC profiles of the images are lost" in notes(without_sections(data, fmt.ORDER))
    assert any("or ICC profiles" in note for note in notes(without_sections(data, fmt.PROFILES)))
    with_profiles(path, profiles)
    more = [smalti.ImageSet(MIXED[0][None]), smalti.ImageSet(MIXED[0][None] // 2, profiles=(b"three",))]
    smalti.append(path, smalti.Source(more[:1], 1, named=False, labelled=False), max_error=0)
    before = path.read_bytes()
    assert "whether images from 10 on had ICC profiles is not known" in notes(before[:-20])
    path.write_bytes(before)
    smalti.append(path, smalti.Source(more[1:], 1, named=False, labelled=False), max_error=0)
    assert not any("ICC profiles" in note for note in notes(path.read_bytes()[:-20]))
    with smalti.open(output) as archive:
        assert list(archive.profiles) == [*profiles, None, b"three"]


def test_the_model_of_images_by_mixing_is_found_where_the_index_is_gone(tmp_path):
    rng, path, saved = np.random.default_rng(0), tmp_path / "x.smalti", tmp_path / "y.smalti"
    noise = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((5, 4, 3), (6, 6), (7, 3, 4))]
    ramp = np.add.outer(np.arange(20), np.arange(18))[..., None] * 3
    ramps = [(ramp + rng.integers(0, 4, (20, 18, 3))).astype(np.uint8) for _ in range(5)]
    smalti.pack(noise, path, lossless=True, model="none")
    smalti.append(path, ramps, lossless=True)
    path.write_bytes(path.read_bytes()[:-20])
    smalti.repair(path, saved)
    with smalti.open(saved) as archive:
        assert all((x == y).all() for x, y in zip(archive, noise + ramps, strict=True))
