# SPDX-License-Identifier: MIT
"""The benchmark of single images measures what it says."""

import pytest

from bench.access import Collection, _cold, _curve, _files
from smalti.demo.samples import draw_digits


def test_the_curve_has_a_row_for_each_packing(monkeypatch):
    monkeypatch.setattr("bench.access.READS", 3)
    rows = _curve(Collection("drawn", draw_digits(40), {"lossless": True, "model": "mnist"}))
    cells = [row.split(" | ") for row in rows]
    assert [row[1] for row in cells] == ["each", "block of 1", "block of 4", "block of 16", "block of 40"]
    sizes = [float(row[2]) for row in cells]
    assert sizes[1] > sizes[2] > sizes[3] > sizes[4]
    assert sizes[4] < sizes[0] < sizes[2]


def test_a_cold_process_opens_a_file_and_reads_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.access.ROUNDS", 1)
    monkeypatch.setattr("bench.access.MILLION", 1024)
    files = _files(draw_digits(256), 300, tmp_path)
    assert len(files) == 5
    each, opened, first, work, imports, reads = (
        float(cell.replace(",", "")) for cell in _cold(*files[-1]).strip("| ").split(" | ")[1:]
    )
    assert 0 < opened < first
    assert work > 0
    assert imports > 0
    assert reads > 1
    assert each == pytest.approx(files[-1][1].stat().st_size / 1024, abs=0.01)
