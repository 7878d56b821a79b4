# SPDX-License-Identifier: MIT
"""How Sphinx builds the documentation: `scripts/docs`."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from sphinx.application import Sphinx

import smalti

project, author, copyright = "smalti", "the authors of smalti", "the authors of smalti"  # noqa: A001 - Sphinx's name
version = release = smalti.__version__
extensions = [
    "command_reference",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "benchmarks", "**.ipynb_checkpoints"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Images", "ModelName", "Place", "Label", "OnBad", "Progress", "Pixels")}
smartquotes = False  # -- is an option, and no dash
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "

html_theme = "pydata_sphinx_theme"
html_title = "smalti"
html_static_path = ["_static"]
html_css_files = ["smalti.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": [],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
html_sidebars = {name: list[str]() for name in ("index", "start", "how-it-works", "benchmarks", "questions")}
html_favicon = "_static/tile.svg"

_OUTSIDE = re.compile(r"\[`?([^\]`]+)`?\]\(\.\./(?:tests|src|bench|scripts|examples)/[^)]*\)")


def _within_the_site(_: object, name: str, source: list[str]) -> None:
    """Lead links that are meant for readers of the repository to the pages of the site, or to nowhere."""
    if not name.startswith("notebooks/"):
        text = source[0].replace("](../CONTRIBUTING.md", "](contributing.md")
        source[0] = _OUTSIDE.sub(r"`\1`", text)


def setup(sphinx: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    sphinx.connect("source-read", _within_the_site)
