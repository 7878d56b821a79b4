# SPDX-License-Identifier: MIT
"""Build the compiled core into the wheel, or into the source of an editable install.

It takes the C compiler that is there, or else zig, which is then asked for as a build requirement. With
SMALTI_NO_CORE=1, or where neither is to be had, the wheel is without the core, and numpy does its work. With
SMALTI_WHEEL, the tag of a platform, zig compiles the wheel for that platform: see scripts/wheels.
"""

import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PACKAGED = "smalti/core"
ZIG = "ziglang>=0.13"
ZIG_MACHINES = {
    "linux": ("x86_64", "aarch64", "i686", "i386", "armv7l"),
    "darwin": ("x86_64", "arm64"),
    "win32": ("AMD64", "ARM64", "x86"),
}
"""The machines that zig has wheels for."""


def _builder() -> Any:
    spec = importlib.util.spec_from_file_location("smalti_core_build", ROOT / "core" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_wanted() -> bool:
    return os.environ.get("SMALTI_NO_CORE", "") in ("", "0")


class CustomBuildHook(BuildHookInterface):
    """The hook that hatchling calls."""

    def dependencies(self) -> list[str]:
        """Return what must be installed for the build: zig, if the core is wanted and there is no C compiler."""
        if self.target_name != "wheel" or not _is_wanted() or _builder().compiler() is not None:
            return []
        return [ZIG] if platform.machine() in ZIG_MACHINES.get(sys.platform, ()) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the core; a wheel with it is for this platform and for every Python."""
        if self.target_name != "wheel":
            return
        if not _is_wanted():
            self.app.display_warning("SMALTI_NO_CORE is set: the core is left out, and numpy does its work")
            return
        builder = _builder()
        if os.environ.get("SMALTI_WHEEL"):
            self._cross_compile(builder, os.environ["SMALTI_WHEEL"], build_data)
            return
        in_source = ROOT / "src" / PACKAGED / builder.NAME
        target = in_source if version == "editable" else Path(self.directory) / builder.NAME
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            command = builder.build(target)
        except builder.BuildError as exc:
            self.app.display_warning(f"the core is left out, and numpy does its work: {exc}")
            return
        self.app.display_info(f"the core was compiled with {' '.join(command)}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"
        if version != "editable":
            build_data["force_include"][str(target)] = f"{PACKAGED}/{builder.NAME}"
            self._made = target

    def _cross_compile(self, builder: Any, platform: str, build_data: dict[str, Any]) -> None:
        """Compile the core for another platform; here, a failure ends the build."""
        self._made = Path(self.directory) / builder.name_on(platform)
        self._made.parent.mkdir(parents=True, exist_ok=True)
        builder.build_for(platform, self._made)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(self._made)] = f"{PACKAGED}/{self._made.name}"
        for path, name in builder.licences(platform):
            build_data["force_include"][str(path)] = f"{PACKAGED}/licences/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the library, which is in the wheel by now."""
        made = getattr(self, "_made", None)
        if made is not None:
            made.unlink(missing_ok=True)


def _platform_tag() -> str:
    """Return the tag of this platform; on Linux the plain one, for wheels that are installed where they were built."""
    from packaging.tags import platform_tags

    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
