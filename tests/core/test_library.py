"""Which engine runs: the compiled core where it was built, numpy where it was not or where that is asked for."""

import importlib.util
import subprocess
import sys

import pytest
from helpers import ROOT

from smalti.core import library
from smalti.core.library import KERNELS, core, describe_engine
from smalti.errors import UsageError

spec = importlib.util.spec_from_file_location("smalti_core_build", ROOT / "core" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

built = pytest.mark.skipif(not library.PATH.is_file(), reason="the core was not built; run scripts/core")


@built
def test_the_library_is_that_of_the_sources():
    """Else the other tests would hold an old core against numpy."""
    found = core()
    assert found is not None
    assert found.library.smalti_sources().decode() == build.source_hash(), "run scripts/core"


@built
def test_kernels_are_chosen_and_refused(monkeypatch):
    monkeypatch.delenv("SMALTI_KERNEL", raising=False)
    here = library.kernels(core().library)
    assert here[0] == "scalar"
    assert describe_engine() == f"core, {here[-1]}"
    for name in here:
        monkeypatch.setenv("SMALTI_KERNEL", name)
        assert core().kernel == KERNELS.index(name)
    monkeypatch.setenv("SMALTI_KERNEL", "mmx")
    with pytest.raises(UsageError, match="this processor runs: scalar"):
        core()


@built
def test_a_kernel_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(library, "_kernel_bits", lambda _: 1)
    monkeypatch.setenv("SMALTI_KERNEL", "avx2")
    with pytest.raises(UsageError, match=r"runs: scalar$"):
        core()
    monkeypatch.delenv("SMALTI_KERNEL")
    assert describe_engine() == "core, scalar"


def test_numpy_runs_where_it_is_asked_for_and_where_there_is_no_library(monkeypatch, tmp_path):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    assert core() is None
    assert describe_engine() == "numpy"
    monkeypatch.setenv("SMALTI_ENGINE", "gpu")
    with pytest.raises(UsageError, match="one of: core, numpy"):
        core()
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    for path, words in ((tmp_path / "no.so", "was not built"), (broken, "cannot be loaded")):
        monkeypatch.setattr(library, "PATH", path)
        library._load.cache_clear()
        try:
            monkeypatch.delenv("SMALTI_ENGINE", raising=False)
            assert core() is None
            assert describe_engine() == f"numpy: the compiled core {words}"
            monkeypatch.setenv("SMALTI_ENGINE", "core")
            with pytest.raises(UsageError, match=words):
                core()
        finally:
            library._load.cache_clear()


@built
def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "VERSION", 0)
    monkeypatch.delenv("SMALTI_ENGINE", raising=False)
    library._load.cache_clear()
    try:
        assert describe_engine() == "numpy: the compiled core is of another version"
    finally:
        library._load.cache_clear()


def test_a_build_without_a_compiler_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert build.compiler() is None
    with pytest.raises(build.BuildError, match="no C compiler"):
        build.build(tmp_path / "x.so")


@pytest.mark.skipif(build.compiler() is None, reason="there is no C compiler")
def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(build.BuildError, match="no-such-flag"):
        build.build(tmp_path / "x.so", ("-fno-such-flag",))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "core")
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "x.c").write_text("int one(void) { int two = 2; return 1; }\n")
    with pytest.raises(build.BuildError, match="unused"):
        build.build(tmp_path / "y.so", ("-Wall", "-Werror"))
    assert [path.name for path in tmp_path.iterdir()] == ["core"]


@built
def test_the_core_uses_no_global_state_and_allocates_nothing():
    """It asks the C library for copies of memory at most."""
    if sys.platform != "linux":
        pytest.skip("needs nm")
    try:
        done = subprocess.run(["nm", "-D", "--undefined-only", library.PATH], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs nm")
    names = {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}
    start_up = {"_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__cxa_finalize", "__gmon_start__"}
    assert names - start_up <= {"memcpy", "memset", "memmove", "memcmp"}


def test_what_only_the_core_does_says_why_it_is_not_done(monkeypatch):
    monkeypatch.setenv("SMALTI_ENGINE", "numpy")
    with pytest.raises(UsageError, match=r"a fit needs the compiled core, .*: SMALTI_ENGINE is numpy; unset it"):
        library.need_core("a fit")
    monkeypatch.delenv("SMALTI_ENGINE")
    monkeypatch.setattr(library, "_load", lambda: (None, "the compiled core was not built"))
    with pytest.raises(UsageError, match=r"was not built; install a wheel of smalti.* without SMALTI_NO_CORE"):
        library.need_core("a fit")
