"""What imports what: the layers, and what importing smalti costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "smalti"

LAYERS = [
    *["errors", "threads", "atomic", "images", "exchange", "tables", "entropy"],
    *["format", "columns", "storage", "archive", "sections", "single", "scan", "grow", "plain", "masked"],
    *["mixture", "pixels", "prior", "local", "ladder", "zips", "onnxfile", "shapes", "bounds", "model", "networks"],
    *["bundle", "pixelcoder", "code", "search"],
    *["latentcoder", "codec", "exact", "least", "control", "metrics", "unordered"],
    *["intake", "sets", "packing", "contents", "sequence", "describe", "api", "assemble", "guess", "mend"],
    *["datasets", "samples", "rivals", "figure"],
]
"""Each imports only from those before it; the command line and training come after all of them."""

OWNERS = {
    "constriction": {"entropy"},
    "onnxruntime": {"model", "training"},
    "threadpoolctl": {"threads"},
    "typer": {"cli"},
    "rich": {"cli"},
    "torch": {"training"},
    "lightning_fabric": {"training"},
    "pooch": {"datasets"},
    "pyarrow": {"parquet"},
    "fsspec": {"storage"},
    "matplotlib": {"training"},
}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"smalti.{alias.name}" for alias in node.names} if node.module == "smalti" else {node.module}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_file_imports_only_from_those_above_it(layer):
    files = sorted((SOURCE / layer).glob("*.py")) or [SOURCE / f"{layer}.py"]
    names = {name for path in files for name in imports(path)}
    mine = {name.split(".")[1] for name in names if name.startswith("smalti.")} - {layer}
    assert mine <= set(LAYERS[: LAYERS.index(layer)]) | ({layer} if len(files) > 1 else set())


def test_training_and_the_command_line_stand_apart():
    """Training knows nothing of the command line, and nothing but the command line knows of training."""
    for path in SOURCE.rglob("*.py"):
        packages = {name.split(".")[1] for name in imports(path) if name.startswith("smalti.")}
        if path.parent.name != "cli" and path.name != "__main__.py":
            assert "cli" not in packages, path
        if path.parent.name not in ("cli", "training"):
            assert "training" not in packages, path


def test_every_file_has_its_layer():
    packages = {path.name for path in SOURCE.iterdir() if list(path.glob("*.py"))}
    files = {path.stem for path in SOURCE.glob("*.py")}
    assert files | packages == {*LAYERS, "__init__", "__main__", "cli", "training"}


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_is_imported_by_its_owner_alone(library):
    users = {path for path in SOURCE.rglob("*.py") if any(name.split(".")[0] == library for name in imports(path))}
    assert users
    assert all({path.stem, path.parent.name} & OWNERS[library] for path in users), users


def loaded(code: str) -> set[str]:
    program = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


HEAVY = {"torch", "onnxruntime", "constriction", "PIL", "rich", "typer", "matplotlib", "lightning_fabric", "pooch"}


def test_importing_smalti_loads_nothing_heavy():
    assert not loaded("import smalti") & (HEAVY | {"numpy"})


def test_the_command_line_starts_without_the_engines():
    assert not loaded("import smalti.cli") & (HEAVY - {"typer", "rich"} | {"numpy"})


def test_decoding_needs_no_training_framework():
    code = "import numpy, smalti; smalti.decode(smalti.encode(numpy.zeros((28, 28), 'u1')))"
    found = loaded(code)
    assert "onnxruntime" in found  # this test can fail
    assert not found & {"torch", "lightning_fabric", "onnx", "matplotlib"}
