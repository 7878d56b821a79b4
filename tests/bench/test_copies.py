"""The benchmark of copies finds them all, and they take few bytes."""

import re

from bench.copies import run
from smalti.demo.samples import draw_digits


def test_copies_take_few_bytes(capsys):
    run(draw_digits(60))
    rows = re.findall(r"\| (block|each) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \|", capsys.readouterr().out)
    assert len(rows) == 2
    for _, before, after, each in rows:
        grown = int(after.replace(",", "")) - int(before.replace(",", ""))
        assert abs(grown / 60 - float(each)) < 0.01
        assert 0 < float(each) < 3
