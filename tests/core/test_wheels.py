"""The distributions that are made here: what they are named, which platforms they are for, and what is in them."""

import importlib.machinery
import importlib.util
import zipfile

import pytest
from helpers import ROOT

pytest.importorskip("hatchling")

loader = importlib.machinery.SourceFileLoader("smalti_wheels", str(ROOT / "scripts" / "wheels"))
wheels = importlib.util.module_from_spec(importlib.util.spec_from_loader("smalti_wheels", loader))
loader.exec_module(wheels)


def test_the_source_distribution_has_all_that_a_wheel_is_built_from(tmp_path):
    wheels.check_sdist(wheels.made("sdist", tmp_path))


def test_a_wheel_of_this_machine_has_the_library_without_a_warning_and_serves_every_python(tmp_path, monkeypatch):
    """Compiling takes seconds, so that the sources are held to have no warnings here."""
    compiler = wheels.build.compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    monkeypatch.setenv("CC", " ".join([*compiler, "-Wall", "-Wextra", "-Werror"]))
    path = wheels.made("wheel", tmp_path)
    assert "-py3-none-" in path.name
    assert not path.name.endswith("-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        library = wheel.read(f"smalti/core/{wheels.build.NAME}")
    assert wheels.build.source_hash().encode() in library
    assert "smalti/model/built_in/mnist.model" in names
    assert not [name for name in names if name.endswith(".c")]


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
@pytest.mark.parametrize("platform", ["manylinux_2_17_aarch64.manylinux2014_aarch64"])
def test_a_wheel_for_another_platform(tmp_path, platform):
    path = wheels.made("wheel", tmp_path, platform)
    wheels.check_wheel(path, platform)
    with pytest.raises(AssertionError):
        wheels.check_wheel(path, "win_amd64")


def test_the_platforms_are_eight():
    assert len(wheels.build.PLATFORMS) == 8
    assert {wheels.build.name_on(tag) for tag in wheels.build.PLATFORMS} == {
        "libsmalti_core.so",
        "libsmalti_core.dylib",
        "libsmalti_core.dll",
    }
