"""The core codes pixels in the same integers as numpy, by each of its kernels."""

import copy
import pickle
from dataclasses import fields

import numpy as np
import pytest
from engines import ENGINES, KERNELS, engine, random_prior
from helpers import ROOT, some_images, toy_pixels

import smalti
from smalti.codec.pixel_codec import decode_pixels, quantise, samples_bits
from smalti.demo.samples import draw_digits
from smalti.entropy.rans import SymbolDecoder, encode_intervals
from smalti.errors import CorruptError
from smalti.exchange.sources import read_images
from smalti.model.pixel_prior import MAX_ERROR
from smalti.model.wavefront import SampleTables, Wavefront, table_sizes

pytestmark = pytest.mark.skipif(not KERNELS, reason="the core was not built; run scripts/core")
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.smalti"))


class _Model:
    """A model that has no part but a pixel prior."""

    def __init__(self, prior):
        self.prior = prior

    def pixels_for(self, channels):
        return self.prior


def same(one, other) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def check(parts, errors, lmbda, prior, engines=ENGINES):
    """All engines quantise alike, and decode what was quantised alike."""
    least, n = int(errors.min()), [len(part) for part in parts]
    with engine("numpy"):
        images, symbols = quantise(parts, errors, prior, lmbda)
        bits = samples_bits(symbols, least)
    ends = np.cumsum(n)
    rows = [np.arange(end - count, end) for end, count in zip(ends, n, strict=True)]
    streams = [encode_intervals([symbols.pick(some).intervals(table_sizes(least)).stream()]) for some in rows]
    for name in engines:
        with engine(name):
            if name != "numpy":
                mine, found = quantise(parts, errors, prior, lmbda)
                assert all((a == b).all() for a, b in zip(mine, images, strict=True)), name
                assert same(found, symbols), name
                assert (samples_bits(found, least) == bits).all(), name
            decoders = [SymbolDecoder(data) for data in streams]
            shapes = [part.shape for part in parts]
            back, again = decode_pixels(decoders, shapes, errors, least, _Model(prior), record=True)
            assert all((a == b).all() for a, b in zip(back, images, strict=True)), name
            assert same(again, symbols), name
            for decoder in decoders:
                decoder.finish()


def random_case(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng)
    channels = 3 if prior.window.channels == 3 else int(rng.choice([1, 3, 4]))
    parts = []
    for _ in range(rng.integers(1, 4)):
        h, w = rng.choice([1, 2, 3, 9, 17, 70], 2, p=[0.2, 0.2, 0.2, 0.2, 0.15, 0.05])
        parts.append(some_images(int(rng.integers(1, 5)), int(h), int(w), channels, rng))
        if rng.random() < 0.2:
            parts[-1][...] = rng.choice([0, 255])
    n = sum(map(len, parts))
    least = int(rng.choice([0, 1, 7, 8, MAX_ERROR]))
    errors = np.minimum(least + rng.integers(0, 20, n) * (rng.random(n) < 0.3), MAX_ERROR).astype(np.int64)
    errors[rng.integers(n)] = least
    return parts, errors, float(rng.choice([0, 0.1, 5])), prior


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_at_the_bounds(seed):
    check(*random_case(seed))


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(50))
def test_many_random_networks_at_the_bounds(tens):
    for seed in range(100 + 10 * tens, 110 + 10 * tens):
        check(*random_case(seed))


@pytest.mark.parametrize("name", ["mnist", "fashion"])
@pytest.mark.parametrize(("max_error", "lmbda"), [(0, 0), (4, 0.1), (30, 0.2)])
def test_digits(name, max_error, lmbda):
    x = draw_digits(20)
    check([x[:13], x[13:]], np.full(20, max_error), lmbda, smalti.load_model(name).pixels)


@pytest.mark.slow
@pytest.mark.parametrize(("max_error", "lmbda"), [(0, 0), (2, 0), (4, 0.1), (40, 0.2)])
def test_three_hundred_digits_of_the_test_set(mnist, max_error, lmbda):
    x = read_images(mnist / "t10k-images-idx3-ubyte.gz").pixels[:300]
    check([x[:150], x[150:]], np.full(300, max_error), lmbda, smalti.load_model("mnist").pixels)


def by_engine(path, name):
    """The parameters of a golden file and an engine, which are slow where numpy decodes hundreds of images."""
    slow = name == "numpy" and path.stem in ("v2-drawn-solid", "v2-mixing-solid")
    return pytest.param(path, name, id=f"{name}-{path.stem}", marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(("path", "name"), [by_engine(path, name) for path in GOLDEN for name in ENGINES])
def test_golden_files(path, name):
    with np.load(path.with_suffix(".npz")) as arrays, engine(name):
        expected = [arrays[key] for key in arrays.files]
        with smalti.open(path) as archive:
            images = list(archive)
        assert all((x == y).all() for x, y in zip(images, expected, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_foreign_bytes_give_the_same_samples_or_the_same_error(channels):
    rng, model = np.random.default_rng(7), _Model(toy_pixels(channels))
    shape, refused = ((4, 6, 5) if channels == 1 else (4, 6, 5, 3)), 0
    for trial in range(40):
        data, least = rng.bytes(int(rng.integers(0, 200))) + b"\1", [0, 5, 126][trial % 3]
        errors, found = np.maximum(rng.integers(0, 127, 4), least), []
        for name in ENGINES:
            with engine(name):
                decoder = SymbolDecoder(data)
                try:
                    images, _ = decode_pixels([decoder], [shape], errors, least, model)
                    found.append(images[0].tobytes())
                    decoder.finish()
                except CorruptError as exc:
                    found.append(str(exc))
        refused += len(found) > len(ENGINES)
        steps = len(found) // len(ENGINES)
        assert len(set(found)) == steps
        assert found == found[:steps] * len(ENGINES)
    assert refused > 10


def test_a_file_written_by_one_engine_is_that_of_another(tmp_path, digits):
    for options in ({"max_error": 0}, {"max_error": 2}, {"quality": 50}, {"quality": 80}, {"min_psnr": 35}):
        files = set()
        for name in ("numpy", KERNELS[0], KERNELS[-1]):
            with engine(name):
                smalti.pack(digits[:3], tmp_path / "x.smalti", force=True, **options)
            files.add((tmp_path / "x.smalti").read_bytes())
        assert len(files) == 1


def test_a_prior_is_packed_once_for_each_kernel_and_pickled_without(lossless):
    prior = copy.copy(lossless.pixels)
    prior.__dict__.pop("_packed", None)
    for name in KERNELS:
        with engine(name):
            packed = prior.packed()
            assert packed is prior.packed()
            assert packed.struct.kernel == packed.core.kernel
    with engine("numpy"):
        assert prior.packed() is None
    again = pickle.loads(pickle.dumps(prior))
    assert "_packed" not in again.__dict__
    assert (again.rows == prior.rows).all()


@pytest.mark.parametrize(("level", "good"), [(1, True), (0, False), (2, False), (15, False), (16, False), (255, False)])
def test_a_level_that_does_not_exist_is_refused(level, good):
    """An image of the largest error has two levels; the tables have room for 256, for others may be exact."""
    prior, errors = toy_pixels(1), np.array([MAX_ERROR])
    _, mixture = next(Wavefront(prior, np.array([[1, 1]]), errors).steps())
    tables = SampleTables(prior.logistics, mixture, errors, 0)
    columns = [tables.of_zeros(), tables.of_nibbles(), tables.of_rest(np.array([level // 16]))]
    symbols = [1, level // 16, level % 16]
    starts = np.array([table[0, :symbol].sum() for table, symbol in zip(columns, symbols, strict=True)])
    frequencies = np.array([table[0, symbol] for table, symbol in zip(columns, symbols, strict=True)])
    data = encode_intervals([(np.arange(3), starts, frequencies)])
    for name in ENGINES:
        with engine(name):
            decoder = SymbolDecoder(data)
            if good:
                assert decode_pixels([decoder], [(1, 1, 1)], errors, 0, _Model(prior))[0][0] == 253 * level
                decoder.finish()
                continue
            with pytest.raises(CorruptError, match="level that does not exist"):
                decode_pixels([decoder], [(1, 1, 1)], errors, 0, _Model(prior))
