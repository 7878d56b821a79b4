"""Labels of WebDataset: in `.cls` files, else in `.json` files that hold one."""

import pytest
from sources import PNG, names_of, tar_of

from smalti.errors import SourceError
from smalti.exchange.sources import open_source, read_images


def of(folder, *members):
    (folder / "x.tar").write_bytes(tar_of([*members]))
    return folder / "x.tar"


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        (b"3", b"4\n", (3, 4)),
        (b"-3", b"0", (-3, 0)),
        (b'{"label": 3}', b'{"cls": 4}', (3, 4)),
        (b'{"label": 3, "cls": 3, "caption": "a"}', b'{"label": 4, "cls": null}', (3, 4)),
        (b'{"label": "cat"}', b'{"cls": "dog", "width": 7}', ("cat", "dog")),
        (b'{"label": [1, 0]}', b'{"label": []}', ((1, 0), ())),
        (b'\xef\xbb\xbf{"label": 3}', b'{"label": 4}', (3, 4)),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_json_files_that_hold_a_label_give_it(tmp_path, first, second, labels, order):
    samples = [[("a.png", PNG), ("a.json", first)], [("b.png", PNG), ("b.json", second)]]
    source = open_source(of(tmp_path, *(member for sample in samples for member in sample[::order])))
    for _ in range(2):
        assert [label for part in source.parts for label in part.labels] == [*labels]
        assert str(source.passed_over) == ""


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"caption": "a"}',
        b'{"label": 1, "cls": 2}',
        b'{"label": true, "cls": 1}',
        b'{"label": 0.5}',
        b'{"label": {"name": "cat"}}',
        b'"cat"',
        b"true",
        b"0.5",
        b"[1, 2]",
        b"null",
        b"not json",
        b"",
        b"\xff",
        b"[" * 50000,
        b"1" * 5000,
        b'{"label": 3}' + b" " * (1 << 16),
    ],
)
def test_json_files_that_hold_no_label_or_no_clear_one_are_passed_over_and_said(tmp_path, data):
    path = of(tmp_path, ("a.png", PNG), ("a.json", data), ("b.json", data), ("b.png", PNG))
    source = open_source(path)
    assert not source.labelled
    assert names_of(source) == ["a.png", "b.png"]
    assert str(source.passed_over) == "2 files that are no images (a.json, ...)"


def test_cls_wins_over_json_and_json_is_then_said(tmp_path):
    for sample in ([("a.cls", b"1"), ("a.json", b"2")], [("a.json", b"2"), ("a.cls", b"1")]):
        source = open_source(of(tmp_path, *sample, ("a.png", PNG)))
        assert [part.labels for part in source.parts] == [(1,)]
        assert str(source.passed_over) == "1 file that is no image (a.json)"


def test_texts_are_captions_and_no_labels(tmp_path):
    source = open_source(of(tmp_path, ("a.png", PNG), ("a.txt", b"7")))
    assert not source.labelled
    assert names_of(source) == ["a.png"]
    assert str(source.passed_over) == "1 file that is no image (a.txt)"


def test_json_labels_are_all_or_none(tmp_path):
    path = of(tmp_path, ("a.json", b"1"), ("a.png", PNG), ("b.json", b"{}"), ("b.png", PNG))
    with pytest.raises(SourceError, match=r"b\.png has no label beside it, the first image has one"):
        read_images(path)
    assert len(read_images(path, labelled=False)) == 2
    path = of(tmp_path, ("a.json", b"1"), ("a.png", PNG), ("b.cls", b"2"), ("b.png", PNG))
    with pytest.raises(SourceError, match=r"b\.cls is a label, but the first image has none such"):
        read_images(path)


def test_json_of_no_image_and_hidden_json_give_no_labels(tmp_path):
    members = [("dataset.json", b"5"), ("a.json", b"1"), ("a.png", PNG), (".a.json", b"9"), ("z.json", b"6")]
    source = open_source(of(tmp_path, *members))
    assert [part.labels for part in source.parts] == [(1,)]


def test_one_json_file_labels_all_images_of_its_sample(tmp_path):
    members = [("a.left.png", PNG), ("a.right.png", PNG), ("a.json", b'{"label": 5}'), ("b.json", b"6"), ("b.png", PNG)]
    assert read_images(of(tmp_path, *members)).labels == (5, 5, 6)


def test_json_labels_are_not_looked_at_where_labels_are_not_wanted(tmp_path):
    source = open_source(of(tmp_path, ("a.json", b"1"), ("a.png", PNG)), labelled=False)
    assert not source.labelled
    assert names_of(source) == ["a.png"]
    assert str(source.passed_over) == "1 file that is no image (a.json)"
