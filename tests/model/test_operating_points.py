import numpy as np

from smalti.model.operating_points import OperatingPoint, OperatingPoints, multiplier_of


def test_operating_points_that_pay_are_kept_and_a_quality_finds_them():
    """Latents are cheap, pixels good; one way of each pays nowhere."""
    latents = [OperatingPoint(False, point, 5.0 + point / 4, 20.0 + point / 8) for point in (0, 32, 64)]
    pixels = [
        OperatingPoint(True, 63, 10.0, 26.0),
        OperatingPoint(True, 31, 60.0, 27.0),
        OperatingPoint(True, 10, 30.0, 38.0),
    ]
    operating_points = OperatingPoints([*latents, *pixels], np.geomspace(2, 6400, 65), 784)
    assert pixels[1] not in operating_points.by_quality
    assert operating_points.of_quality(1) == latents[0]
    assert operating_points.of_quality(100) == pixels[2]
    for name in ("bytes", "psnr"):
        values = [getattr(point, name) for point in operating_points.by_quality]
        assert values == sorted(values)
    qualities = [operating_points.of_quality(quality) for quality in range(1, 101)]
    assert [point.psnr for point in qualities] == sorted(point.psnr for point in qualities)
    assert set(qualities) <= set(operating_points.by_quality)


def test_without_pixels_a_quality_is_an_operating_point():
    operating_points = OperatingPoints(
        [OperatingPoint(False, p, 1.0 + p, 20.0 + p / 9) for p in (0, 64)], np.geomspace(2, 6400, 65), 784
    )
    assert [operating_points.of_quality(quality).setting for quality in (1, 50, 100)] == [0, 32, 64]


def test_a_finer_step_is_worth_more_bits():
    assert multiplier_of(1) > multiplier_of(2) > multiplier_of(60)
