"""The fuzz targets run on some inputs under sanitizers, without libFuzzer; `scripts/fuzz-core` runs them for longer."""

import importlib.util
import os
import subprocess
from functools import partial

import pytest
from helpers import ROOT, in_threads, made_once

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


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """The core under sanitizers, compiled once for all targets."""
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")

    def compiled(source, folder):
        command = [*compiler, *FLAGS, f"-I{ROOT / 'core'}", "-c", source, "-o", folder / f"{source.stem}.o"]
        return subprocess.run(command, capture_output=True)

    def make(folder):
        sources = sorted((ROOT / "core").glob("*.c"))
        for made in in_threads(partial(compiled, folder=folder), sources, at_once=os.cpu_count()):
            if made.returncode and b"sanitize" in made.stderr:
                (folder / "none").touch()
                return
            assert made.returncode == 0, made.stderr.decode()

    folder = made_once(tmp_path_factory, "core-under-sanitizers", make)
    if (folder / "none").exists():
        pytest.skip("the compiler has no sanitizers")
    return sorted(folder.glob("*.o"))


@pytest.mark.slow
@pytest.mark.parametrize("target", COUNTS)
def test_a_target_finds_nothing(target, objects, tmp_path):
    program = tmp_path / target
    sources = [ROOT / "fuzz" / f"{target}.c", ROOT / "fuzz" / "replay" / "main.c", *objects]
    command = [*build.compiler(), *FLAGS, f"-I{ROOT / 'core'}", *sources, "-o", program]
    made = subprocess.run(command, capture_output=True)
    assert made.returncode == 0, made.stderr.decode()
    found = sorted((ROOT / "fuzz" / "corpus" / target).glob("*"))
    for arguments in (["-n", str(COUNTS[target])], found):
        done = subprocess.run([program, *arguments], capture_output=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
        assert done.returncode == 0, done.stderr.decode()[-3000:]
