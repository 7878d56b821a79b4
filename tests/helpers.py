# SPDX-License-Identifier: MIT
"""Small things that several tests need."""

import struct
from pathlib import Path

import numpy as np
import torch

from smalti.model.pixel_prior import PixelPrior
from smalti.training.export.export_pixels import integer_pixels
from smalti.training.networks.pixel_network import PixelNet, PixelSize

TINY_PIXELS = {"above": 3, "reach": 2, "left": 3, "width": 16, "layers": 3, "components": 4}


def write_idx(path: Path, pixels: np.ndarray) -> Path:
    """`pixels` (`n h w`) as an idx file."""
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes())
    return path


def random_pixels(channels: int) -> PixelPrior:
    """A small network for coding by pixels that was never trained, and believes one thing here and another there."""
    torch.manual_seed(channels)
    net = PixelNet(PixelSize(channels, **TINY_PIXELS))
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return integer_pixels(net)
