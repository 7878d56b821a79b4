"""The benchmark of small pictures with loss: its measures, its sheets and placeholders, and a run on a few pictures."""

import csv
import io
import json
import math
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("imagecodecs", reason='benchmarks need imagecodecs: pip install "smalti[bench]"')

from bench.thumbnails import rivals, run
from bench.thumbnails.metrics import bd_rate, decibel, grid, log_bytes, ms_ssim_of, psnr_of
from bench.thumbnails.placeholders import blurhash_coded, thumbhash_coded
from bench.thumbnails.rivals import RIVALS, Point, measured, rivals_for, sheet_of
from bench.thumbnails.run import curves_of, range_of


def picture(h: int, w: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((w, h), Image.Resampling.BICUBIC)
    x = np.asarray(coarse)
    return x if channels == 3 else np.concatenate([x, np.full((h, w, 1), 255, np.uint8)], -1)


def noisy(x: np.ndarray, sigma: float) -> np.ndarray:
    off = np.random.default_rng(1).normal(0, sigma, x.shape)
    off[..., 3:] = 0
    return (x + off).round().clip(0, 255).astype(np.uint8)


def test_a_curve_that_takes_a_fifth_less_has_a_bd_rate_of_a_fifth():
    theirs = [(100.0 * 2 ** ((db - 26) / 3), db) for db in range(24, 39, 2)]
    ours = [(0.8 * size, db) for size, db in theirs]
    more, reached = bd_rate(log_bytes([ours]), log_bytes([theirs]))
    assert more == pytest.approx(-0.2)
    assert reached == 1
    more, reached = bd_rate(log_bytes([ours]), log_bytes([theirs[:5]]))  # theirs ends at 32 dB
    assert more == pytest.approx(-0.2)
    assert reached == pytest.approx(0.6, abs=0.01)
    assert math.isnan(bd_rate(log_bytes([ours]), log_bytes([[(9.0, math.inf)]]))[0])


def test_the_best_of_curves_is_taken_at_each_point_and_worse_points_are_left_out():
    one, other = [(100, 26), (400, 36)], [(50, 26), (900, 36)]
    best = np.exp(log_bytes([one, other]))
    assert best[0] == pytest.approx(50)
    assert best[-1] == pytest.approx(400)
    assert (best <= np.exp(log_bytes([one])) + 1e-9).all()
    worse = [*one, (300, 25.0)]  # more bytes, fewer dB
    assert np.allclose(log_bytes([worse]), log_bytes([one]))
    assert len(grid()) == len(best)


def plain_ssim(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return SSIM of a plane and its second factor, from the definition, window by window."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    both, second = [], []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            second.append((2 * cov + c2) / (va + vb + c2))
            both.append((2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * second[-1])
    return float(np.mean(both)), float(np.mean(second))


def test_ms_ssim_follows_its_definition():
    x, y = picture(24, 22), noisy(picture(24, 22), 12)
    expected = []
    for c in range(3):
        a, b = x[..., c].astype(float), y[..., c].astype(float)
        _, fine = plain_ssim(a, b)
        half_a, half_b = (p.reshape(12, 2, 11, 2).mean((1, 3)) for p in (a, b))
        coarse, _ = plain_ssim(half_a, half_b)
        expected.append(fine ** (0.0448 / 0.3304) * coarse ** (0.2856 / 0.3304))
    assert ms_ssim_of([x], [y]) == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("size", [(4, 7), (11, 11), (32, 32), (48, 32), (192, 130)])
@pytest.mark.parametrize("channels", [3, 4])
def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise(size, channels):
    x = picture(*size, channels=channels)
    values = [ms_ssim_of([x, x], [noisy(x, sigma), x]) for sigma in (0, 3, 10, 40)]
    assert values[0] == pytest.approx(1, abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert decibel(values[1]) > decibel(values[2])


def test_the_error_of_what_nobody_sees_does_not_count():
    x = picture(16, 16, channels=4).copy()
    x[:8, :, 3] = 0
    y = x.copy()
    y[:8, :, :3] = 255 - y[:8, :, :3]
    assert math.isinf(psnr_of([x], [y]))
    y[8:, :, 0] ^= 1
    assert psnr_of([x], [y]) == pytest.approx(-10 * math.log10(1 / 255**2 / 6), abs=0.01)
    opaque = picture(16, 16)  # WebP leaves alpha out where all is opaque
    assert math.isinf(psnr_of([picture(16, 16, channels=4)], [opaque]))


def test_bytes_are_compared_at_equal_ms_ssim_too():
    def points(codec: str, how: str, factor: float) -> list[Point]:
        return [Point(codec, how, "", q, factor * 2**q, 20 + 3 * q, 1 - 10 ** (-(5 + 2 * q) / 10)) for q in range(8)]

    found = [*points("smalti", "smalti", 9), *points("WebP", "files", 10)]
    at = range_of(found)
    assert at[0] == pytest.approx(9)  # at 26 dB
    assert at[-1] == pytest.approx(5 + 2 * 16 / 3)
    curves = [curves_of(found, codec, how, similar=True) for codec, how in (("smalti", "smalti"), ("", "files"))]
    assert bd_rate(*(log_bytes(some, at) for some in curves)) == (pytest.approx(-0.1), 1.0)


def test_a_sheet_holds_each_image_once():
    images = [picture(h, w, seed) for seed, (h, w) in enumerate([(8, 12), (12, 8), (8, 12), (9, 12), (12, 8)] * 3)]
    sheet, places = sheet_of(images)
    seen = np.zeros(sheet.shape[:2], int)
    for (y, x), image in zip(places, images, strict=True):
        h, w, _ = image.shape
        assert (sheet[y : y + h, x : x + w] == image).all()
        seen[y : y + h, x : x + w] += 1
    assert seen.max() == 1
    square, _ = sheet_of([picture(8, 8)] * 9)
    assert square.shape == (24, 24, 3)


def test_placeholders_are_as_large_and_as_good_as_published():
    corners = np.array([[[90, 110, 160], [150, 120, 100]], [[60, 90, 50], [180, 170, 120]]], np.uint8)
    x = np.asarray(Image.fromarray(corners).resize((32, 32), Image.Resampling.BICUBIC))
    for coded, size, least in ((thumbhash_coded, 24, 25), (blurhash_coded, 28, 20)):
        found, x_hat = coded(x)
        assert found == size
        assert x_hat.shape == x.shape
        assert psnr_of([x], [x_hat]) > least
    gray = np.full((32, 32, 3), 128, np.uint8)
    for coded in (thumbhash_coded, blurhash_coded):
        assert np.abs(coded(gray)[1].astype(int) - 128).max() <= 12


def test_rivals_come_from_the_cache_when_they_were_measured(tmp_path):
    images = [picture(16, 16, seed) for seed in range(3)]
    rival = RIVALS[0]
    points = measured(images, rival, tmp_path, (30, 80))
    assert [(p.how, p.quality) for p in points] == [(how, q) for q in (30, 80) for how in ("files", "sheet")]
    assert points[2].psnr > points[0].psnr
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 2
    for path in kept:
        path.write_text(json.dumps([row | {"psnr": 1.0} for row in json.loads(path.read_text())]))
    assert {p.psnr for p in measured(images, rival, tmp_path, (30, 80))} == {1.0}
    images[0] = 255 - images[0]
    assert measured(images, rival, tmp_path, (30,))[0].psnr > 10


def test_jpeg_is_left_out_where_there_is_alpha():
    assert all(rival.codec != "JPEG" for rival in rivals_for([picture(8, 8, channels=4)]))
    assert any("exact alpha" in rival.settings for rival in rivals_for([picture(8, 8, channels=4)]))


def test_the_benchmark_runs_and_its_figures_are_sane(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    strip = np.concatenate([picture(16, 16, seed) for seed in range(72)])  # of which six are held out
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "WEBP", lossless=True, exact=True)
    with tarfile.open(data / "cifar.tar", "w") as tar:
        member = tarfile.TarInfo("0.webp")
        member.size = len(file.getvalue())
        tar.addfile(member, io.BytesIO(file.getvalue()))
    some = tuple(rival for rival in RIVALS if rival.codec in ("JPEG", "JPEG XL"))
    monkeypatch.setattr(rivals, "RIVALS", some)
    monkeypatch.setattr(run, "QUALITIES", (20, 90))
    monkeypatch.setattr(run, "PLACEHOLDER_BYTES", (3, 60))
    monkeypatch.setattr(run, "ROUNDS", 1)
    run.run(data, tmp_path / "out", tmp_path / "cache", run.Plan(only=("cifar",), effort=1, times=True))
    with (tmp_path / "out" / "thumbnails.csv").open() as rows:
        found = list(csv.DictReader(rows))
    assert {(row["codec"], row["how"]) for row in found} == {
        *((rival.codec, how) for rival in some for how in ("files", "sheet")),
        ("smalti", "smalti"),
        ("smalti, ssim", "smalti"),
    }
    text = (tmp_path / "out" / "thumbnails.md").read_text()
    for words in (
        "| cifar |",
        "thumbhash",
        "**cifar**: 6 images",
        "JPEG XL, one sheet",
        "| cifar | smalti, effort 1 |",
        "| smalti, `--bytes 60` |",
    ):
        assert words in text
    for name in ("psnr", "ms-ssim", "cifar", "cifar-ssim", "cifar-placeholders"):
        with Image.open(tmp_path / "out" / f"thumbnails-{name}.png") as drawn:
            assert min(drawn.size) > 200
