"""What Python programs hold is taken as it was, or refused with the line that mends it."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sources import DIGITS, PNG, zip_of

import smalti
from smalti.errors import SourceError, UsageError
from smalti.exchange.sources import as_source, joined, read_images
from smalti.types import ImageSet


def packed(source, **options):
    """Pack without loss, and return the images as they come back."""
    file = io.BytesIO()
    smalti.pack(source, file, lossless=True, **options)
    assert not smalti.verify(file.getvalue(), deep=True)
    with smalti.open(file.getvalue()) as archive:
        return [archive[i] for i in range(len(archive))]


class Subclass(np.ndarray):
    """Array whose views are of other types than plain arrays."""


class ArrayLike:
    """Anything that can be made an array."""

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x


class Tensor:
    """An array of a GPU, as torch has them: it must be detached and copied first."""

    def __init__(self, x, ready=0):
        self.x, self.ready = x, ready

    def detach(self):
        return Tensor(self.x, 1)

    def cpu(self):
        assert self.ready == 1
        return Tensor(self.x, 2)

    def numpy(self):
        assert self.ready == 2
        return self.x

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


ODD = {
    "plain": lambda x: x,
    "masked, none of it": np.ma.masked_array,
    "masked by a false mask": lambda x: np.ma.masked_array(x, np.zeros(x.shape, bool)),
    "negative strides": lambda x: x[::-1, ::-1, ::-1][::-1, ::-1, ::-1],
    "fortran": np.asfortranarray,
    "subclass": lambda x: x.view(Subclass),
    "recarray": lambda x: x.view(np.recarray),
    "big-endian": lambda x: x.astype(np.dtype("u1").newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape),
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "array-like": ArrayLike,
    "masked array-like": lambda x: ArrayLike(np.ma.masked_array(x)),
    "tensor": Tensor,
    "set": ImageSet,
    "list": list,
    "tuple of subclasses": lambda x: tuple(image.view(Subclass) for image in x),
    "generator": iter,
    "list of tensors": lambda x: [Tensor(image) for image in x],
    "list of images": lambda x: [Image.fromarray(image) for image in x],
    "objects": lambda x: np.array([None, *x], object)[1:],
}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(ODD)),
    shape=st.sampled_from([(1, 5, 7), (3, 5, 7), (2, 1, 6), (2, 5, 7, 3), (1, 4, 5, 4), (2, 5, 7, 1)]),
    seed=st.integers(0, 1 << 16),
    few=st.booleans(),
)
def test_odd_arrays_come_back_equal_and_pass_their_check(kind, shape, seed, few):
    x = np.random.default_rng(seed).integers(0, 3 if few else 256, shape, np.uint8)
    if kind == "list of images" and shape[-1] == 1:
        x = x[..., 0]
    images = packed(ODD[kind](x))
    wanted = x[..., 0] if x.shape[-1] == 1 else x
    assert len(images) == len(wanted)
    assert all((a == b).all() and a.shape == b.shape for a, b in zip(images, wanted, strict=True))


def test_broadcast_images_come_back_equal():
    assert all((image == DIGITS[0]).all() for image in packed(np.broadcast_to(DIGITS[0], (3, 6, 5))))


@pytest.mark.parametrize("wrap", [lambda x: x, ImageSet, list, ArrayLike])
def test_the_mask_of_a_masked_array_is_left_out_with_a_warning(wrap):
    x = np.ma.masked_array(DIGITS, DIGITS > 200)
    with pytest.warns(UserWarning, match=r"masked.*x\.filled\(0\)"):
        images = packed(wrap(x))
    assert all((a == b).all() for a, b in zip(images, DIGITS, strict=True))


def test_a_memory_map_that_changes_while_it_is_packed_does_no_harm(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9000, 4, 5), np.uint8))
    x = np.load(tmp_path / "x.npy", mmap_mode="r+")
    file = io.BytesIO()

    def change(_done, _total):
        x[...] += 1

    smalti.pack(x, file, lossless=True, progress=change)
    assert not smalti.verify(file.getvalue(), deep=True)


def test_an_array_that_changes_after_it_was_appended_does_no_harm(tmp_path):
    smalti.pack(DIGITS, tmp_path / "x.smalti", lossless=True)
    smalti.append(tmp_path / "x.smalti", np.ma.masked_array(DIGITS), max_error=0)
    assert not smalti.verify(tmp_path / "x.smalti", deep=True)
    with pytest.warns(UserWarning, match="masked"):
        smalti.append(tmp_path / "x.smalti", np.ma.masked_array(DIGITS, DIGITS > 9), max_error=0)
    assert not smalti.verify(tmp_path / "x.smalti", deep=True)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (DIGITS / 255, r'not float64.*\(x \* 255\)\.round\(\)\.astype\("uint8"\)'),
        (DIGITS.astype(">f4"), r"\(x \* 255\)"),
        (DIGITS > 9, r'x\.astype\("uint8"\) \* 255'),
        (DIGITS.astype(">u2"), "not >u2|not uint16"),
        (DIGITS.astype("<u2"), r"x >> 8"),
        (DIGITS.astype(int), r'x\.astype\("uint8"\) for samples from 0 to 255'),
        (np.zeros((2, 3, 6, 5), np.uint8), r"np\.moveaxis\(x, 1, -1\)"),
        (np.zeros((2, 3, 6, 5)), r"\(x \* 255\).* and np\.moveaxis\(x, 1, -1\)"),
        (DIGITS[0], r"x\[None\], or smalti\.encode"),
        (np.zeros((16, 15, 3), np.uint8), r"one image h w c; give x\[None\], or smalti\.encode\(x\)"),
        (np.zeros((16, 15, 4), np.uint8), r"one image h w c"),
        ([np.zeros((3, 6, 5), np.uint8)], r"image 0: an image must.*np\.moveaxis\(x, 0, -1\)"),
        ([DIGITS[0], DIGITS[0] / 255], r"image 1: .*\(x \* 255\)"),
        ([np.zeros((0, 5), np.uint8)], "image 0: there is no image"),
        (Tensor(DIGITS / 255), r"Tensor\).*x = np\.asarray"),
        (np.zeros((1, 5000, 5000), np.uint8), "more than a file can hold: 16777216 samples"),
        ({"image": DIGITS}, r'type dict, .*x\["image"\]'),
        ([{"image": DIGITS}], r"image 0 is of type dict"),
        (None, "type NoneType"),
        (7, "type int"),
        (PNG, r"type bytes.*io\.BytesIO\(x\)"),
        ([[1, 2], [3, 4]], r'image 0 is of type list.*np\.array\(x, "uint8"\)'),
        ([DIGITS[0], "a.png"], "both images and paths"),
        (["a.png", DIGITS[0]], "both images and paths"),
        (io.StringIO("text"), "mode 'rb'"),
        ([Image.new("CMYK", (3, 2))], "image 0 has mode CMYK"),
        ([Image.new("I;16", (3, 2))], "image 0 has 16 bits a sample"),
    ],
)
def test_what_holds_no_images_is_refused_by_its_type_with_the_way_out(x, message):
    with pytest.raises(SourceError, match=message):
        smalti.pack(x, io.BytesIO(), quality=1)


def test_a_table_is_no_file_that_is_missing():
    class DataFrame:
        iloc, columns = None, ["image"]

    with pytest.raises(SourceError, match=r'DataFrame, which is no source of images; .*x\["image"\]'):
        smalti.pack(DataFrame(), io.BytesIO())


def test_images_of_pillow_are_taken():
    image = Image.fromarray(DIGITS[0])
    assert (packed(image)[0] == DIGITS[0]).all()
    clear = Image.fromarray(np.full((2, 3, 4), 7, np.uint8))
    gray, rgba = packed([image, clear])
    assert (gray == DIGITS[0]).all()
    assert (rgba == 7).all()
    assert (smalti.decode(smalti.encode(clear, lossless=True)) == 7).all()


def test_masks_and_palettes_of_pillow_are_taken_as_from_files(tmp_path):
    for mode in ("1", "P", "LA"):
        image = Image.fromarray(DIGITS[0]).convert(mode)
        image.save(tmp_path / "x.png")
        assert (joined(as_source([image])).pixels == read_images(tmp_path / "x.png").pixels).all()


def test_tensors_of_torch_are_taken():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(DIGITS.copy())
    assert all((a == b).all() for a, b in zip(packed(x), DIGITS, strict=True))
    assert all((a == b).all() for a, b in zip(packed(list(x)), DIGITS, strict=True))
    assert (smalti.decode(smalti.encode(x[0], lossless=True)) == DIGITS[0]).all()
    with pytest.raises(SourceError, match=r"torch\.Tensor.*\(x \* 255\).*np\.moveaxis\(x, 1, -1\)"):
        smalti.pack(torch.rand(2, 3, 6, 5, requires_grad=True), io.BytesIO())


def test_series_of_pandas_are_taken(tmp_path):
    pandas = pytest.importorskip("pandas")
    (tmp_path / "a.png").write_bytes(PNG)
    assert (packed(pandas.Series([str(tmp_path / "a.png")]))[0] == DIGITS[0]).all()
    assert (packed(pandas.Series(list(DIGITS)))[1] == DIGITS[1]).all()
    with pytest.raises(SourceError, match=r"pandas\.DataFrame"):
        smalti.pack(pandas.DataFrame({"a": [1]}), io.BytesIO())


def test_taking_tensors_imports_no_torch():
    program = (
        "import io, sys, numpy as np, smalti\n"
        "smalti.pack(np.zeros((2, 4, 5), 'u1'), io.BytesIO(), lossless=True)\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Named:
    """A path of another library."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_whatever_names_a_file_is_a_path(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    smalti.pack(Named(tmp_path / "a.png"), Named(tmp_path / "x.smalti"), lossless=True)
    smalti.unpack(tmp_path / "x.smalti", Named(tmp_path / "out"))
    assert (np.asarray(Image.open(tmp_path / "out" / "a.png")) == DIGITS[0]).all()
    assert (packed([Named(tmp_path / "a.png"), str(tmp_path / "a.png")][:1])[0] == DIGITS[0]).all()


def test_open_binary_files_are_taken(tmp_path):
    (tmp_path / "x.zip").write_bytes(zip_of([("a.png", PNG), ("b.png", PNG)], zipfile.ZIP_STORED))
    with (tmp_path / "x.zip").open("rb") as file:
        assert len(packed(file)) == 2
    assert (packed(io.BytesIO(PNG))[0] == DIGITS[0]).all()
    np.save(file := io.BytesIO(), DIGITS)
    file.seek(0)
    assert len(packed(file)) == len(DIGITS)
    with pytest.raises(SourceError, match="mode 'rb'"), Path(__file__).open(encoding="utf-8") as text:
        smalti.pack(text, io.BytesIO())


def test_names_and_labels_may_be_given_beside_images(tmp_path):
    names, labels = [f"{i}.png" for i in range(20)], np.arange(20)
    smalti.pack(DIGITS, tmp_path / "x.smalti", lossless=True, names=names, labels=labels)
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert archive.names == tuple(names)
        assert archive.labels == tuple(range(20))
    np.save(tmp_path / "l.npy", labels)
    smalti.pack(list(DIGITS), tmp_path / "y.smalti", lossless=True, labels=tmp_path / "l.npy")
    smalti.pack(ImageSet(DIGITS, None, labels), tmp_path / "z.smalti", lossless=True, labels=False)
    with smalti.open(tmp_path / "y.smalti") as y, smalti.open(tmp_path / "z.smalti") as z:
        assert (y.labels, z.labels) == (tuple(range(20)), None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": [1]}, SourceError, "1 labels for 20 images"),
        ({"names": ["a"] * 21}, SourceError, "21 names for 20 images"),
        ({"labels": 7}, SourceError, "labels must be a sequence"),
        ({"names": "abc"}, SourceError, "names must be a sequence"),
        ({"names": range(20)}, SourceError, "names must be texts"),
        ({"lossless": True, "max_error": 0}, UsageError, "lossless=True means max_error=0"),
        ({"lossless": True, "quality": 9}, UsageError, "exclude each other"),
        ({"lossless": True, "target": smalti.Target(quality=9)}, UsageError, "give one of them"),
        ({"labels": range(20), "on_bad": print}, UsageError, "leave out on_bad"),
    ],
)
def test_names_labels_and_lossless_that_conflict_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        smalti.pack(DIGITS, io.BytesIO(), **options)


def test_labels_beside_labels_are_refused():
    with pytest.raises(UsageError, match="labels of its own"):
        smalti.pack(ImageSet(DIGITS, None, range(20)), io.BytesIO(), labels=range(20))


def test_errors_of_python_speak_of_arguments(tmp_path):
    (tmp_path / "x.smalti").write_bytes(b"")
    with pytest.raises(UsageError, match="add force=True"):
        smalti.pack(DIGITS, tmp_path / "x.smalti")


@pytest.mark.parametrize("shape", [(300, 5, 4), (5, 7, 3), (20, 30, 1)])
def test_small_and_narrow_gray_images_are_no_single_image_in_colour(shape):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert as_source(x).total == shape[0]


def test_an_image_of_pillow_that_holds_several_is_not_one(tmp_path):
    frames = [Image.fromarray(np.full((5, 6), 40 * i, np.uint8)) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (64, 64)).save(tmp_path / "a.ico", sizes=[(16, 16), (32, 32), (64, 64)])
    for name, what in (("a.gif", "4 frames"), ("a.tif", "4 pages"), ("a.ico", "3 sizes")):
        for convert in (False, True):
            with Image.open(tmp_path / name) as image, pytest.raises(SourceError, match=f"image 0 holds {what}"):
                smalti.pack([image], tmp_path / "x.smalti", convert=convert)
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(2)
        smalti.pack([image.copy()], tmp_path / "x.smalti", lossless=True)
    assert (smalti.load(tmp_path / "x.smalti").pixels == 80).all()
