# SPDX-License-Identifier: MIT
"""The code of README and docs runs, block by block, as it stands there."""

import gc
import re
import shlex

import doc_material as material
import doc_pages as pages
import pytest
from helpers import ROOT

PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "design" not in path.parts
    and "_build" not in path.parts
    and list(pages.blocks(path.read_text(encoding="utf-8")))
]
NEEDS = {"smalti.torch": "torch", "parquet": "pyarrow", "fsspec": "fsspec"}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_code_of_a_page_runs(path, tmp_path, monkeypatch):
    text = path.read_text(encoding="utf-8")
    for word, module in NEEDS.items():
        if any(word in block.code for block in pages.blocks(text)):
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    namespace = material.make(tmp_path)
    of_page = {"__name__": "__page__", **namespace}
    pages.run_page(path, of_page)
    of_page.clear()  # with what a page leaves open, as a server does
    gc.collect()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_scripts_that_a_page_names_take_these_arguments(path):
    for command in re.findall(r"`(scripts/[a-z-]+ [^`]+)`", path.read_text(encoding="utf-8")):
        if not command.endswith("--help"):
            pages.parse_script(*shlex.split(command))


def test_every_fence_of_a_page_names_its_language():
    for path in PAGES:
        fences = re.findall(r"^ *```(.*)$", path.read_text(encoding="utf-8"), re.M)
        assert len(fences) % 2 == 0, path
        assert all(fences[::2]), f"{path} has a block without a language; write text, if it is none"


@pytest.mark.parametrize(
    "page",
    [
        "```python\nassert 1 == 2\n```\n",
        "```sh\nsmalti pack nothing -o x.smalti\n```\n",
        "```sh\nfalse\n```\n",
        "```sh\nsmalti train scans/ -o x.model --no-such-option\n```\n",
        "```sh\nscripts/torture flops\n```\n",
        "```sh\nscripts/bench no-such-benchmark\n```\n",
        "```sh\nscripts/no-such-script\n```\n",
        "```sh\nscripts/test tests/no-such-file.py\n```\n",
        "```console\n$ echo one\ntwo\n```\n",
        "```ruby\nputs 1\n```\n",
        "- a list\n\n  ```python\n  raise KeyError\n  ```\n",
    ],
)
def test_a_block_that_fails_fails_the_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    with pytest.raises((AssertionError, KeyError)):
        pages.run_page(tmp_path / "page.md", {})


def test_a_block_that_is_not_to_run_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "<!-- not run: it needs a camera -->\n```python\nraise KeyError\n```\n\n```text\nnothing\n```\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    pages.run_page(tmp_path / "page.md", {})
