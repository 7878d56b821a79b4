# SPDX-License-Identifier: MIT
"""The library of the compiled core: where it is, which of its kernels runs, and whether it is used at all.

Two variables of the environment are for tests and for comparisons; nobody needs them otherwise. `SMALTI_ENGINE` is
`core` or `numpy`; if it is not set, the core is used where there is one. `SMALTI_KERNEL` is one of KERNELS; if it is
not set, the fastest one that the processor runs is used.
"""

import ctypes
import os
import sys
from ctypes import c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from smalti.errors import UsageError

VERSION = 2
"""The version of the library's interface, SMALTI_VERSION in `core/smalti.h`."""
ENGINES = ("core", "numpy")
KERNELS = ("scalar", "sse4", "avx2", "avxvnni", "avx512", "neon", "wasm")
"""The names of the kernels, by their numbers in `core/smalti.h`; the last one that a processor runs is the fastest."""
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
PATH = Path(__file__).with_name("libsmalti_core" + SUFFIX)
"""Where the library is, if there is one."""

_FUNCTIONS = {
    "smalti_big": (c_int32, (c_int32,)),
    "smalti_open": (None, (c_void_p,)),
    "smalti_take": (None, (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "smalti_take_tables": (None, (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p)),
    "smalti_put": (c_int64, (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64)),
    "smalti_take_mixtures": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_take_mixtures_each": (c_int32, (c_void_p, c_int64, c_void_p, c_void_p, c_void_p)),
    "smalti_latents_work": (c_int64, (c_void_p, c_int64)),
    "smalti_take_latents": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p)),
    "smalti_latent_cdf": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_spatial_work": (c_int64, (c_void_p, c_void_p)),
    "smalti_take_spatial": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_spatial_tables": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_work": (c_int64, (c_void_p, c_void_p)),
    "smalti_decode": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_quantise": (c_int32, (c_void_p, c_void_p, c_double, c_void_p, c_void_p, c_void_p)),
    "smalti_sum_bits": (None, (c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p)),
    "smalti_put_symbols": (c_int64, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64)),
    "smalti_order": (None, (c_void_p, c_int32, c_int64, c_uint64, c_void_p, c_void_p)),
    "smalti_sort": (None, (c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_int32)),
    "smalti_mix_state_size": (c_int64, (c_int32, c_int32)),
    "smalti_mix_work": (c_int64, (c_int32, c_int32)),
    "smalti_mix_start": (None, (c_void_p, c_void_p, c_int32, c_int32)),
    "smalti_coder_start": (None, (c_void_p,)),
    "smalti_coder_end": (c_int32, (c_void_p,)),
    "smalti_mix": (c_int32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_mix_inputs": (None, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "smalti_tf_work": (c_int64, (c_void_p, c_int64, c_int32, c_int32)),
    "smalti_tf_analyse": (None, (c_void_p, c_void_p, c_void_p)),
    "smalti_tf_synthesise": (None, (c_void_p, c_void_p, c_void_p)),
    "smalti_tf_code": (c_int32, (c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p)),
    "smalti_refine_work": (c_int64, (c_void_p, c_int64)),
    "smalti_refine": (
        c_int32,
        (c_void_p, c_void_p, c_void_p, c_int64, c_double, c_void_p, c_int64, c_void_p, c_void_p),
    ),
    "smalti_network_work": (c_int64, (c_void_p, c_int64)),
    "smalti_run": (c_int32, (c_void_p, c_int64, c_void_p)),
    "smalti_sources": (c_char_p, ()),
}
"""The functions of the library: what each returns and takes."""


@dataclass(frozen=True)
class Core:
    """The library, with the kernel that is used."""

    library: ctypes.CDLL
    kernel: int  # the number of its name in KERNELS


def core() -> Core | None:
    """Return the compiled core, or None if numpy computes.

    Raises:
        UsageError: the environment asks for an engine or a kernel that is not there.
    """
    engine, kernel = os.environ.get("SMALTI_ENGINE", ""), os.environ.get("SMALTI_KERNEL", "")
    if engine and engine not in ENGINES:
        raise UsageError(f"SMALTI_ENGINE is {engine!r}; set it to one of: {', '.join(ENGINES)}")
    if engine == "numpy":
        return None
    library, missing = _load()
    if library is None:
        if engine:
            raise UsageError(f"SMALTI_ENGINE is core, but {missing}; install smalti again, or set it to numpy")
        return None
    here = kernels(library)
    if kernel and kernel not in here:
        raise UsageError(f"SMALTI_KERNEL is {kernel!r}; this processor runs: {', '.join(here)}")
    return Core(library, KERNELS.index(kernel or here[-1]))


def kernels(library: ctypes.CDLL) -> list[str]:
    """Return the names of the kernels that the processor runs, the fastest one last."""
    found = _kernel_bits(library)
    return [name for i, name in enumerate(KERNELS) if found >> i & 1]


def describe_engine() -> str:
    """Return the name of the engine that computes, with its kernel, or with the reason why it is numpy.

    Raises:
        UsageError: as `core` does.
    """
    if (found := core()) is not None:
        return f"core, {KERNELS[found.kernel]}"
    return f"numpy: {_load()[1]}" if "SMALTI_ENGINE" not in os.environ else "numpy"


def why_numpy() -> str | None:
    """Return why numpy computes, and what to do for the core to compute; None if the core does."""
    if core() is not None:
        return None
    if os.environ.get("SMALTI_ENGINE"):
        return "SMALTI_ENGINE is numpy; unset it"
    return f"{_load()[1]}; install a wheel of smalti, or smalti where there is a C compiler and without SMALTI_NO_CORE"


def need_core(what: str) -> None:
    """Refuse what only the core does. what: its name in the error.

    Raises:
        UsageError: numpy computes.
    """
    if (why := why_numpy()) is not None:
        raise UsageError(f"{what} needs the compiled core, and numpy computes here: {why}")


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library and an empty text, or None and the reason why there is none."""
    if not PATH.is_file():
        return None, "the compiled core was not built"
    try:
        library = ctypes.CDLL(str(PATH))
        version = library.smalti_version()
        if version == VERSION:
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None, "the compiled core cannot be loaded"
    if version != VERSION:
        return None, "the compiled core is of another version"
    return library, ""


@cache
def _kernel_bits(library: ctypes.CDLL) -> int:
    found: int = library.smalti_kernels()
    return found
