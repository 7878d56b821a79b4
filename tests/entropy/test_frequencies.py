import numpy as np
import pytest

from smalti.entropy.frequencies import TOTAL, bits, uniform


@pytest.mark.parametrize("k", [1, 2, 3, 66])
def test_a_uniform_table_sums_to_the_whole_and_is_even(k):
    rows = uniform(4, k)
    assert rows.shape == (4, k)
    assert (rows.sum(1) == TOTAL).all()
    assert rows.max() - rows.min() < k


def test_bits_are_the_ideal_code_length():
    rows = np.array([[TOTAL // 2, TOTAL // 4, TOTAL // 4]] * 3)
    assert bits(rows, np.array([0, 1, 2])).tolist() == [1.0, 2.0, 2.0]
