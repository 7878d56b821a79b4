"""The rules of the wings, and what importing smalti costs."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import smalti
from smalti.demo.samples import draw_digits

SOURCE = Path(__file__).parents[1] / "src" / "smalti"

FLOORS = [
    ["errors", "limits"],
    ["util"],
    ["types"],
    ["core"],
    ["entropy", "container", "exchange"],
    ["model"],
    ["codec"],
    ["rate"],
    ["archive"],
    ["api"],
    ["demo", "pillow", "torch"],
    ["training"],
    ["cli"],
]
"""The wings and the single files beside them, from the ground up: each imports only from floors below its own."""
MAX_LINES, MAX_FILES = 400, 12

OWNERS = {
    "constriction": {"rans"},
    "onnxruntime": {"onnxruntime_engine"},
    "threadpoolctl": {"parallel"},
    "typer": {"cli"},
    "rich": {"cli"},
    "torch": {"training", "torch"},
    "lightning_fabric": {"training"},
    "pooch": {"downloads"},
    "pyarrow": {"parquet"},
    "fsspec": {"storage"},
    "matplotlib": {"training"},
}


@cache
def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"smalti.{alias.name}" for alias in node.names} if node.module == "smalti" else {node.module}
    return found


def floor(wing: str) -> int:
    return next(i for i, wings in enumerate(FLOORS) if wing in wings)


def wing_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def wings_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("smalti.")} - {"__version__"}


FILES = [
    path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem not in ("__init__", "__main__")
]


def test_every_file_is_in_a_wing_and_every_wing_has_files():
    assert {wing_of(path) for path in FILES} == {wing for wings in FLOORS for wing in wings}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_wing_imports_only_from_wings_below_its_own(path):
    mine = wing_of(path)
    above = {wing for wing in wings_imported(path) - {mine} if floor(wing) >= floor(mine)}
    assert not above, f"{path.name} imports from {above}, which are no floors below {mine}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_codec_model_and_entropy_know_no_file_and_container_knows_no_image(path):
    if wing_of(path) in ("codec", "model", "entropy"):
        assert not wings_imported(path) & {"container", "archive", "exchange"}
        assert "smalti.util.storage" not in imports(path)
    if wing_of(path) == "container":
        assert not wings_imported(path) & {"codec", "model", "entropy"}
        assert "numpy" not in {name.split(".")[0] for name in imports(path)}


def test_no_file_is_long_and_no_folder_is_crowded():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name for name, n in lines.items() if n > MAX_LINES}
    folders = {path.parent for path in FILES}
    assert not {folder.name for folder in folders if len(list(folder.glob("*.py"))) > MAX_FILES}


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_is_imported_by_its_owner_alone(library):
    users = {path for path in SOURCE.rglob("*.py") if any(name.split(".")[0] == library for name in imports(path))}
    assert users
    assert all({path.stem, wing_of(path)} & OWNERS[library] for path in users), users


def loaded(code: str, *, whole: bool = False) -> set[str]:
    program = f"{code}\nimport sys; print(*{{name if {whole} else name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


HEAVY = {"torch", "onnxruntime", "constriction", "PIL", "rich", "typer", "matplotlib", "lightning_fabric", "pooch"}


def test_importing_smalti_loads_nothing_heavy_but_numpy():
    assert not loaded("import smalti") & HEAVY


def test_the_command_line_starts_without_the_engines():
    assert not loaded("import smalti.cli") & (HEAVY - {"typer", "rich"})


@pytest.mark.parametrize("streams", ["each", "block"])
def test_reading_an_image_imports_nothing_that_the_package_has_not(tmp_path, streams):
    """So the first image costs what decoding costs; writers, threads and random numbers are no part of reading."""
    path = tmp_path / "x.smalti"
    smalti.pack(draw_digits(3, seed=0), path, quality=50, packing=smalti.Packing(streams=streams))
    code = (
        f"import sys, smalti; known = set(sys.modules); smalti.open({str(path)!r})[1]; print(*set(sys.modules) - known)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"encodings.cp437"}, "the first read imports modules"
    needless = {"smalti.container.records", "concurrent.futures", "numpy.random"} - loaded("import numpy", whole=True)
    assert not loaded("import smalti", whole=True) & needless  # numpy before 2 imports some of them itself


def test_decoding_needs_no_training_framework():
    code = "import numpy, smalti; smalti.decode(smalti.encode(numpy.zeros((28, 28), 'u1')))"
    found = loaded(code)
    assert not found & {"torch", "lightning_fabric", "onnx", "onnxruntime", "matplotlib"}
