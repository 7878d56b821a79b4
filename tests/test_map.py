"""The map of the source says what the modules say of themselves."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = runpy.run_path(str(ROOT / "scripts" / "map"))


def test_the_map_of_the_source_is_up_to_date():
    assert MAP["main"](["--check"]) == 0, "run scripts/map"


def test_a_map_that_is_out_of_date_or_missing_is_noticed(tmp_path, capsys):
    page = tmp_path / "map.md"
    assert MAP["main"](["--check"], page) == 1
    assert MAP["main"]([], page) == 0
    assert MAP["main"](["--check"], page) == 0
    page.write_text(page.read_text(encoding="utf-8").replace("block_codec", "block_codecs"), encoding="utf-8")
    assert MAP["main"](["--check"], page) == 1
    assert "run scripts/map" in capsys.readouterr().err


def test_every_module_and_every_folder_is_on_the_map():
    source = ROOT / "src" / "smalti"
    paths = [path for path in source.rglob("*.py") if path.parent == source or path.stem != "__init__"]
    folders = [path.parent for path in source.rglob("*/__init__.py") if path.parent != source]
    listed = re.findall(r"^(?:## Floor \d+: | *- )`([^`]+)`", MAP["page"](), re.M)
    assert Counter(listed) == Counter([path.name for path in paths] + [f"{folder.name}/" for folder in folders])


def test_a_module_without_a_docstring_is_refused():
    with pytest.raises(SystemExit, match="has no docstring"):
        MAP["first_line"](ROOT / "src" / "smalti" / "py.typed")
