"""An archive as an array, and as a picture."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import in_threads
from PIL import Image

import smalti
from smalti.archive.reader import Contents
from smalti.errors import SeveralShapesError, UsageError
from smalti.model.engines import network

rng = np.random.default_rng(11)


def noise(n, *shape):
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.fixture(
    scope="module", params=[(5, 7), (6, 4, 2), (5, 7, 3), (4, 4, 4)], ids=["gray", "gray-alpha", "rgb", "rgba"]
)
def pair(request, tmp_path_factory):
    """Images of one colour, and an archive of them in blocks of 4."""
    x = noise(13, *request.param)
    path = tmp_path_factory.mktemp("array") / "x.smalti"
    smalti.pack(x, path, lossless=True, packing=smalti.Packing(4))
    with smalti.open(path) as archive:
        yield x, archive


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Images of several sizes and colours, the archive's path, their names and labels."""
    x = [noise(1, *shape)[0] for shape in [(5, 7), (6, 4, 2), (5, 7, 3), (4, 4, 4), (5, 7)] * 3]
    names, labels = tuple(f"a/<{i}>.png" for i in range(15)), tuple(("cat", "dög")[i % 2] for i in range(15))
    parts = [smalti.ImageSet(one[None], (name,), (label,)) for one, name, label in zip(x, names, labels, strict=True)]
    path = tmp_path_factory.mktemp("mixed") / "x.smalti"
    smalti.pack(smalti.Source(parts, 15, named=True, labelled=True), path, lossless=True, packing=smalti.Packing(4))
    return x, path, names, labels


def same(a, b):
    return len(a) == len(b) and all(x.shape == y.shape and (x == y).all() for x, y in zip(a, b, strict=True))


INDEXES = [
    3, -1, np.int64(2), slice(None), slice(2, 11, 3), slice(None, None, -2), slice(5, 5), ..., (), (...,), (4,),
    [1, -1, 1], np.array([7, 0]), [], np.arange(13) % 3 == 0, range(2, 9, 3),
    (2, 3), (2, ..., 1), (2, slice(1, 3)), (slice(1, 9, 2), 0), (slice(None), slice(None), slice(1, 3)),
    (..., 1), (..., slice(None), 1), (-1, slice(None), [0, 1]), ([1, 5], 2), ([1, 5], [2, 0]), ([1, 5], slice(None), 1),
    (np.arange(13) % 5 == 0, slice(None), [1, 2, 0]), (slice(None), [0, 1], [2, 2]), (slice(2, 4), None),
]  # fmt: skip


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_an_archive_is_indexed_as_an_array_of_numpy_is(pair, index):
    x, archive = pair
    found, wanted = archive[index], x[index]
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    assert (found == wanted).all()


@pytest.mark.parametrize("index", [13, -14, [13], (13, 0), (0, 99), 1.5, None, "a", [[1]], np.zeros(3, bool), (0, "a")])
def test_what_is_no_index_of_an_array_is_none_of_an_archive(pair, index):
    _, archive = pair
    with pytest.raises((IndexError, TypeError)):
        archive[index]


def test_an_archive_has_the_shape_of_an_array(pair):
    x, archive = pair
    assert (archive.shape, archive.ndim, archive.dtype, len(archive)) == (x.shape, x.ndim, x.dtype, len(x))


def test_numpy_makes_an_array_of_an_archive(pair):
    x, archive = pair
    assert (np.asarray(archive) == x).all()
    assert np.asarray(archive, np.float32).dtype == np.float32
    assert (np.array(archive, copy=True) == x).all()
    assert (np.stack([archive, archive])[1] == x).all()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(ValueError, match="always a new array"):
            np.asarray(archive, copy=False)


def test_an_array_of_an_archive_is_ones_own(pair):
    x, archive = pair
    found = np.asarray(archive)
    found[:] = 0
    archive[3][:] = 0
    next(archive.iterate([3]))[:] = 0
    assert (archive[:] == x).all()


def test_images_of_several_shapes_have_no_shape(mixed):
    x, path, *_ = mixed
    with smalti.open(path) as archive:
        assert not hasattr(archive, "shape")
        assert not hasattr(archive, "ndim")
        for work in (lambda: archive.shape, lambda: np.asarray(archive), lambda: archive.image_shape):
            with pytest.raises(SeveralShapesError, match="4 shapes"):
                work()
        assert same(archive[...], x)
        assert (archive[1, 2:, 0] == x[1][2:, 0]).all()
        for index in ((slice(None), 0), (..., 0), ([0, 1], 0)):
            with pytest.raises(TypeError, match="several shapes"):
                archive[index]


def test_a_file_of_one_image_is_an_array_of_one(digits):
    archive = smalti.open(smalti.encode(digits[0], lossless=True))
    assert archive.shape == (1, 28, 28)
    assert (np.asarray(archive)[0] == digits[0]).all()
    assert "1 image," in archive._repr_html_()


def test_parts_of_an_archive_are_iterated_over(pair, mixed):
    x, archive = pair
    for wanted in (slice(2, 11, 3), slice(None, None, -1), [5, 5, -1], np.arange(13) > 9, range(3)):
        assert same(list(archive.iterate(wanted)), list(x[wanted]))
    assert same(list(archive), list(x))
    x, path, *_ = mixed
    with smalti.open(path) as archive:
        assert same(list(archive.iterate(slice(3, None, 2))), x[3::2])
        assert same(archive.__getitems__([9, -1, 9]), [x[9], x[-1], x[9]])
        with pytest.raises(IndexError):
            next(archive.iterate([15]))


def test_a_list_decodes_each_block_once(mixed, monkeypatch):
    x, path, *_ = mixed
    decoded, real = list[int](), Contents.decode

    def decode(self, blocks):
        decoded.extend(blocks := list(blocks))
        return real(self, blocks)

    monkeypatch.setattr(Contents, "decode", decode)
    with smalti.open(path, cache_bytes=0) as archive:
        rows = [0, 14, 3, 0, 8, 7, 14, 1]
        assert same(archive.__getitems__(rows), [x[i] for i in rows])
        assert len(decoded) == len(set(decoded)) > 1
        decoded.clear()
        assert same(archive[rows], [x[i] for i in rows])
        assert len(decoded) == len(set(decoded)) > 1
        decoded.clear()
        assert len(list(archive.iterate(slice(None)))) == 15
        assert len(decoded) == len(set(decoded)) >= len(archive.contents.index.blocks) - 1  # one is still kept


def test_iterating_reads_no_names(mixed, monkeypatch):
    x, path, *_ = mixed
    for what in ("names", "labels", "profiles"):
        monkeypatch.setattr(Contents, what, lambda _: pytest.fail("nobody asked"))
    with smalti.open(path) as archive:
        assert same(list(archive), x)
        assert same(archive[2:5], x[2:5])
        assert repr(archive)


def test_what_load_gives_is_an_array_to_numpy(digits):
    images = smalti.ImageSet(digits)
    assert np.asarray(images) is images.pixels
    assert np.array(images) is not images.pixels
    assert (np.asarray(images, np.float64) == digits).all()
    assert (np.concatenate([images, digits]) == np.concatenate([digits, digits])).all()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert np.asarray(images, copy=False) is images.pixels
        with pytest.raises(ValueError, match="need a copy"):
            np.asarray(images, np.float32, copy=False)


def test_what_was_read_from_a_file_is_an_array_to_numpy(pair):
    x, archive = pair
    assert (np.asarray(smalti.load(archive.contents.storage.where)) == x).all()


def test_an_archive_is_packed_with_its_names_and_labels(mixed, tmp_path, digits):
    x, path, names, labels = mixed
    with smalti.open(path) as archive:
        smalti.pack(archive, tmp_path / "y.smalti", lossless=True)
    with smalti.open(tmp_path / "y.smalti") as again:
        assert same(list(again), x)
        assert (again.names, again.labels) == (names, labels)
    classes = {"label_names": list("abcdefghij")}
    smalti.pack(
        digits, tmp_path / "a.smalti", labels=[i % 10 for i in range(20)], packing=smalti.Packing(metadata=classes)
    )
    with smalti.open(tmp_path / "a.smalti") as archive:
        assert archive.label_names == tuple("abcdefghij")
        smalti.pack(archive, tmp_path / "b.smalti", lossless=True)
    with smalti.open(tmp_path / "b.smalti") as again:
        assert again.metadata == classes


def test_a_notebook_shows_the_first_images(mixed, pair):
    x, path, *_ = mixed
    with smalti.open(path) as archive:
        sheet = Image.open(io.BytesIO(archive._repr_png_()))
        assert sheet.format == "PNG"
        page = archive._repr_html_()
    pixels = np.asarray(sheet)
    first = np.repeat(np.repeat(x[0], 13, 0), 13, 1)  # a side of 7 becomes one of 91 pixels
    h, w = first.shape
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (h, w))
    assert (windows[::1, :12] == first).all((2, 3)).any()
    assert "&lt;0&gt;.png" in page
    assert "<0>" not in page
    assert all(word in page for word in ("cat", "dög", "15 images", "bytes an image", "4x4 RGBA, 5x7 gray"))
    data = base64.b64decode(re.search('base64,([^"]+)', page)[1])
    assert Image.open(io.BytesIO(data)).size == sheet.size
    narrow = Image.open(io.BytesIO(pair[1]._repr_png_()))
    assert narrow.height < sheet.height  # there are neither names nor labels below the images


def test_a_contact_sheet_shows_no_more_than_24_images(tmp_path):
    heights = []
    for n in (24, 25, 60):
        smalti.pack(noise(n, 9, 9), tmp_path / f"{n}.smalti", lossless=True)
        with smalti.open(tmp_path / f"{n}.smalti") as archive:
            heights.append(Image.open(io.BytesIO(archive._repr_png_())).height)
    assert len(set(heights)) == 1


def loaded_by(code):
    program = f"import sys, smalti\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_opening_a_file_loads_neither_an_engine_nor_what_encoding_needs(tmp_path, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits, path, lossless=True, labels=list(range(20)))
    found = loaded_by(f"x = smalti.open({str(path)!r}); x.labels, x.shape, len(x), repr(x)")
    assert "smalti.archive.reader" in found
    assert not {"onnxruntime", "PIL", "constriction", "smalti.archive.writer", "smalti.exchange.sources"} & found
    found = loaded_by(f"smalti.open({str(path)!r})[3]")
    assert not {"onnxruntime", "PIL", "constriction", "smalti.archive.writer"} & found


def test_readers_and_threads_share_the_model_that_a_file_brings(tmp_path, toy, digits):
    smalti.pack(digits, tmp_path / "x.smalti", model=toy, quality=40, packing=smalti.Packing(embed=True))
    archives = [smalti.open(tmp_path / "x.smalti") for _ in range(4)]
    found = in_threads(lambda one: one.contents.model(0), archives)
    for one in archives:
        one.close()
    assert all(model is found[0] for model in found)


def test_a_network_starts_once_for_all_threads(toy, digits, tmp_path, monkeypatch):
    path = tmp_path / "x.smalti"
    smalti.pack(digits, path, model=toy, quality=40, packing=smalti.Packing(2))
    model = smalti.load_model(toy) if not isinstance(toy, smalti.Model) else toy
    model.__dict__.pop("_sessions", None)
    started, real = [], network.start
    names = {data: name for name, data in model.networks.items()}
    monkeypatch.setattr(
        "smalti.model.model.start", lambda data, *a, **k: started.append(names[data]) or real(data, *a, **k)
    )
    with smalti.open(path, model=model) as archive:
        assert len(archive[:]) == 20
    assert 0 < len(started) == len(set(started))
    assert "analysis.onnx" not in started


def test_a_name_that_is_not_there_is_an_error_that_says_so(mixed):
    with smalti.open(mixed[1]) as archive:
        assert archive.find("a/<3>.png") == 3
        with pytest.raises(UsageError, match="no image named"):
            archive.find("3")
