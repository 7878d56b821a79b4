# SPDX-License-Identifier: MIT
"""Compile the core with the C compiler that is there: cc, or zig from the wheel `ziglang`. Standard library only."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c11",
    "-O3",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
)  # no fused sums: they round otherwise
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
NAME = "libsmalti_core" + SUFFIX


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


def build(target: Path, flags: tuple[str, ...] = ()) -> list[str]:
    """Compile the core to the file `target` and return the command of the compiler; `flags` are added.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    command = compiler()
    if command is None:
        raise BuildError("there is no C compiler: neither cc, gcc nor clang, nor the Python package ziglang")
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    pic = () if sys.platform == "win32" else ("-fPIC",)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    define = f'-DSMALTI_SOURCES="{source_hash()}"'
    try:
        done = subprocess.run([*command, *FLAGS, *pic, *flags, define, *sources, "-o", str(new)], capture_output=True)
        if done.returncode:
            raise BuildError(done.stderr.decode(errors="replace").strip())
        new.replace(target)  # a program that runs keeps the old one
    except OSError as exc:
        raise BuildError(str(exc)) from exc
    finally:
        new.unlink(missing_ok=True)
    return command
