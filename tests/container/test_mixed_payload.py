"""The payload of a mixed block: parts come back, with other numbers of models where that is asked."""

import pytest

from smalti.container.format import Kind
from smalti.container.mixed_payload import Part, pack_mixed, unpack_mixed, with_models
from smalti.errors import CorruptError

PARTS = [
    Part(Kind(0, 1, 28, 28), (0, 3), b"first"),
    Part(Kind(2, 3, 5, 300), (1,), b""),
    Part(Kind(2, 1, 28, 28), (2, 4, 5), b"third"),
]


def test_parts_come_back():
    assert unpack_mixed(pack_mixed(PARTS[::-1]), 6) == PARTS


@pytest.mark.parametrize("numbers", [{0: 0, 2: 2}, {0: 5, 2: 0}, {0: 2, 1: 9, 2: 200}])
def test_models_get_other_numbers_and_nothing_else_changes(numbers):
    found = unpack_mixed(with_models(pack_mixed(PARTS), 6, numbers), 6)
    assert [part.kind.model for part in found] == [numbers[part.kind.model] for part in PARTS]
    rest = [[(part.kind[1:], part.rows, part.payload) for part in parts] for parts in (found, PARTS)]
    assert rest[0] == rest[1]


@pytest.mark.parametrize("numbers", [{}, {0: 0}, {1: 1, 2: 2}])
def test_a_model_that_has_no_new_number_is_refused(numbers):
    with pytest.raises(CorruptError, match="names a model that does not exist"):
        with_models(pack_mixed(PARTS), 6, numbers)
