# SPDX-License-Identifier: MIT
"""Compile the core with the C compiler that is there: cc, or zig from the wheel `ziglang`. Standard library only."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c11",
    "-O3",
    "-fvisibility=hidden",
    "-ffp-contract=off",
)  # no fused sums: they round otherwise
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
NAME = "libsmalti_core" + SUFFIX


PLATFORMS = {
    "manylinux_2_17_x86_64.manylinux2014_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64.manylinux2014_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_1_x86_64": "x86_64-linux-musl",
    "musllinux_1_1_aarch64": "aarch64-linux-musl",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
    "win_arm64": "aarch64-windows-gnu",
}
"""The platforms of wheels, by their tags, with the names that zig has for them."""


class BuildError(Exception):
    """There is no compiler, or it failed."""


def compiler() -> list[str] | None:
    """Return the command of a C compiler, or None: that of $CC, cc, gcc or clang, else zig if it is installed."""
    names = [name for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name]
    for words in (name.split() for name in names):
        if shutil.which(words[0]) and sys.platform != "win32":  # there, cc may be of another ABI; zig is known to work
            return words
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]  # else it compiles for this processor alone
    return None


def source_hash() -> str:
    """Return a hash of the sources; the library knows it, so that a test can tell whether it is up to date."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h", ".inc"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def name_on(platform: str) -> str:
    """Return the name of the library on a platform of PLATFORMS."""
    return "libsmalti_core" + {"win": ".dll", "mac": ".dylib"}.get(platform[:3], ".so")


def build_for(platform: str, target: Path) -> list[str]:
    """Compile the core for a platform of PLATFORMS by zig; return the command of the compiler.

    Raises:
        BuildError: zig is not installed, or it failed.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("the Python package ziglang is not installed; it compiles for other platforms")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", PLATFORMS[platform], "-s"]
    return _compile(command, target, () if platform.startswith("win") else ("-fPIC",))


def licences(platform: str) -> list[tuple[Path, str]]:
    """Return the licences of what zig links into the library, as files and names: its runtime, on Windows MinGW's."""
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    assert spec.origin is not None
    zig = Path(spec.origin).parent
    found = [(zig / "LICENSE", "zig-compiler-rt.txt")]
    if platform.startswith("win"):
        found.append((zig / "lib" / "libc" / "mingw" / "COPYING", "mingw-w64.txt"))
    return found


def build(target: Path, flags: tuple[str, ...] = ()) -> list[str]:
    """Compile the core to the file `target` and return the command of the compiler; `flags` are added.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    command = compiler()
    if command is None:
        raise BuildError("there is no C compiler: neither cc, gcc nor clang, nor the Python package ziglang")
    return _compile(command, target, (*(() if sys.platform == "win32" else ("-fPIC",)), *flags))


def _compile(command: list[str], target: Path, flags: tuple[str, ...]) -> list[str]:
    define = f'-DSMALTI_SOURCES="{source_hash()}"'
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as name:  # for Windows, zig leaves more files beside it
            folder = Path(name)
            objects = {source: folder / f"{source.stem}.o" for source in sorted(SOURCES.glob("*.c"))}
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = [
                    pool.submit(_run, [*command, *FLAGS, *flags, define, "-c", str(source), "-o", str(to)])
                    for source, to in objects.items()
                ]
            for one in compiled:
                one.result()
            new = folder / target.name
            _run([*command, "-shared", *FLAGS, *flags, *map(str, objects.values()), "-o", str(new)])
            new.replace(target)  # a program that runs keeps the old one
    except OSError as exc:
        raise BuildError(str(exc)) from exc
    return command


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise BuildError(done.stderr.decode(errors="replace").strip())
