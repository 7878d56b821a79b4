# SPDX-License-Identifier: MIT
"""A network that is ready to run, on the engine that the environment chooses.

`SMALTI_NETWORKS` is for tests and for comparisons: core, numpy or onnxruntime. If it is not set, the core runs networks
where there is one, else numpy. All three give the same integers for the networks that decode. Networks that only the
encoder needs may round: core and numpy round alike, so that they write the same files; onnxruntime rounds otherwise.
"""

import os
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core, core
from smalti.errors import UsageError
from smalti.model.engines.core_engine import CoreNetwork
from smalti.model.proof.onnx_reader import read_onnx

ENGINES = ("core", "numpy", "onnxruntime")

Floats = NDArray[np.float32]


class Network(Protocol):
    """A network, ready to run."""

    inputs: tuple[str, ...]

    def run(self, inputs: Mapping[str, Floats], images: int) -> list[Floats]:
        """Return the results for so many images; each input has as many rows for each image.

        Raises:
            ValueError: an input is of another shape than the network takes.
        """


def engine() -> str | Core:
    """Return the engine that runs networks: the core, or the name of another one.

    Raises:
        UsageError: the environment asks for an engine that is not there.
    """
    wanted = os.environ.get("SMALTI_NETWORKS", "")
    if wanted and wanted not in ENGINES:
        raise UsageError(f"SMALTI_NETWORKS is {wanted!r}; set it to one of: {', '.join(ENGINES)}")
    if wanted in ("", "core"):
        found = core()
        if found is not None:
            return found
        if wanted:
            raise UsageError("SMALTI_NETWORKS is core, but the core does not run; set it to numpy")
        return "numpy"
    return wanted


def start(data: bytes, on: str | Core, *, exact: bool, patches: int, threads: int) -> Network:
    """Return the network of an ONNX file, ready to run.

    on: what `engine` gave. exact: whether it decodes, and is proven exact. patches: of an image.
    threads: of onnxruntime; 0: one for each core.

    Raises:
        ValueError: the file is not as smalti writes it, or it could be inexact.
        UsageError: onnxruntime is not installed.
    """
    if on == "onnxruntime":
        from smalti.model.engines.onnxruntime_engine import OnnxruntimeNetwork

        return OnnxruntimeNetwork(data, threads)
    if isinstance(on, Core):
        return CoreNetwork(on, read_onnx(data), exact=exact, patches=patches)
    from smalti.model.engines.numpy_engine import NumpyNetwork

    return NumpyNetwork(read_onnx(data), exact=exact, patches=patches)
