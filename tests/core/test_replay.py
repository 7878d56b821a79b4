"""Calls to the core are recorded and replayed: `scripts/elsewhere` does it on other machines, this on the same one."""

import importlib.util
import os
import subprocess
import sys

import pytest
from engines import CORE
from helpers import ROOT

FOLDER = ROOT / "elsewhere"
spec = importlib.util.spec_from_file_location("smalti_core_build", ROOT / "core" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
NAMES = ("v1-pixels", "v2-mixing-each", "pack-lossless")


def made(compiler, *arguments):
    done = subprocess.run([*compiler, "-O1", *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
@pytest.mark.skipif(CORE is None, reason="the core was not built; run scripts/core")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc is watched")
def test_calls_are_replayed_and_a_byte_that_differs_is_seen(tmp_path, monkeypatch):
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    monkeypatch.syspath_prepend(str(FOLDER))
    from harness import write_calls

    from smalti.core import library

    write_calls(tmp_path / "calls.h")
    tracker, program = tmp_path / "tracker.so", tmp_path / "replay"
    made(compiler, "-shared", "-fPIC", FOLDER / "tracker.c", "-o", tracker, "-lpthread")
    made(compiler, f"-I{tmp_path}", f"-I{ROOT / 'core'}", FOLDER / "replay.c", "-o", program, "-ldl")
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "LD_PRELOAD": str(tracker), "SMALTI_KERNEL": "scalar"}
    done = subprocess.run(
        [sys.executable, FOLDER / "record.py", tmp_path, *NAMES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    def replayed(*traces):
        command = [program, library.PATH, "-1", *traces]
        return subprocess.run(command, capture_output=True, text=True)

    traces = [tmp_path / f"{name}.trace" for name in NAMES]
    assert replayed(*traces).returncode == 0
    for trace in traces:
        data = bytearray(trace.read_bytes())
        calls = [int(line.split()[1]) for line in replayed(trace).stdout.splitlines()]
        assert calls[0] > 3
        at = data.rindex(b"E")
        while int.from_bytes(data[at + 1 : at + 5], "little") > 1000:  # that E is a byte of something else
            at = data.rindex(b"E", 0, at)
        data[at + 21] ^= 1
        trace.write_bytes(data)
        found = replayed(trace)
        assert found.returncode == 1
        assert "after call" in found.stderr
