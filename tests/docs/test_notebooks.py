# SPDX-License-Identifier: MIT
"""The notebooks hold what they should and nothing else; `scripts/docs` runs them."""

import json

import pytest
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_holds_no_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]
    assert path.stat().st_size < 20_000
    assert notebook["cells"][0]["source"][0].startswith("# Notebook: ")


def test_every_notebook_is_on_the_site():
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS if f"notebooks/{path.stem}\n" not in page] == []
    assert page.count("notebooks/") == len(NOTEBOOKS) > 0


def test_every_page_is_linked_from_another():
    pages = {
        path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts and "design" not in path.parts
    }
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    alone = [
        path
        for path in pages
        if path.stem != "index" and not any(path.stem in texts[other] for other in pages - {path})
    ]
    assert not alone
