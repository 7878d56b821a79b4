"""The fuzz targets run on some inputs under sanitizers, without libFuzzer; `scripts/fuzz-core` runs them for longer."""

import importlib.util
import subprocess

import pytest
from helpers import ROOT

spec = importlib.util.spec_from_file_location("smalti_core_build", ROOT / "core" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

FLAGS = ("-std=c11", "-O1", "-ffp-contract=off", "-fno-sanitize-recover=all", "-fsanitize=address,undefined")
COUNTS = {
    "rans": 2000,
    "latents": 100,
    "mixing": 100,
    "pixels": 15,
    "operators": 100,
    "search": 500,
    "mlp": 300,
    "spatial": 100,
    "transform": 30,
}


def test_every_target_is_run():
    assert COUNTS.keys() == {path.stem for path in (ROOT / "fuzz").glob("*.c")}


@pytest.mark.slow
@pytest.mark.parametrize("target", COUNTS)
def test_a_target_finds_nothing(target, tmp_path):
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path / target
    sources = [ROOT / "fuzz" / f"{target}.c", ROOT / "fuzz" / "replay" / "main.c", *sorted((ROOT / "core").glob("*.c"))]
    made = subprocess.run([*compiler, *FLAGS, f"-I{ROOT / 'core'}", *sources, "-o", program], capture_output=True)
    if made.returncode and b"sanitize" in made.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert made.returncode == 0, made.stderr.decode()
    found = sorted((ROOT / "fuzz" / "corpus" / target).glob("*"))
    for arguments in (["-n", str(COUNTS[target])], found):
        done = subprocess.run([program, *arguments], capture_output=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
        assert done.returncode == 0, done.stderr.decode()[-3000:]
