# SPDX-License-Identifier: MIT
"""Networks in onnxruntime, for comparisons. It is not installed with smalti."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from smalti.errors import UsageError

Floats = NDArray[np.float32]


class OnnxruntimeNetwork:
    """A session of onnxruntime."""

    def __init__(self, data: bytes, threads: int) -> None:
        try:
            import onnxruntime as ort
        except ImportError as exc:
            raise UsageError("onnxruntime is not installed; install it, or unset SMALTI_NETWORKS") from exc
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else the idle ones starve numpy's
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # its errors have no common root of their own
            raise ValueError("onnxruntime cannot load a network") from exc
        self.inputs = tuple(i.name for i in self._session.get_inputs())

    def run(self, inputs: Mapping[str, Floats], images: int) -> list[Floats]:  # noqa: ARG002 - it sees the rows
        """Return the results, as `Network.run` does."""
        try:
            results: list[Floats] = self._session.run(None, {name: inputs[name] for name in self.inputs})
        except Exception as exc:  # as above
            raise ValueError("onnxruntime cannot run a network") from exc
        return results
