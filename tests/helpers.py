# SPDX-License-Identifier: MIT
"""Small things that several tests need."""

import struct
from pathlib import Path

import numpy as np


def write_idx(path: Path, pixels: np.ndarray) -> Path:
    """`pixels` (`n h w`) as an idx file."""
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes())
    return path
