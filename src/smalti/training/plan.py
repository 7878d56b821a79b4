# SPDX-License-Identifier: MIT
"""The plans of single networks, which decide the trained weights together with the images."""

from dataclasses import dataclass
from typing import Any, Literal

from smalti.training.networks.autoencoder import FULL, NARROW, Wide
from smalti.training.networks.transforms import Size


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one network."""

    epochs: int
    learning_rate: float
    wide: Wide = FULL
    decay: bool = True  # cosine from `learning_rate` to 0 after a warm-up; else constant
    optimizer: Literal["adam", "soap"] = "soap"


REFERENCE = (Phase(epochs=20, learning_rate=1e-3, decay=False, optimizer="adam"),)
"""The reference schedule: 20 epochs of the full network with Adam at a constant learning rate."""
FAST = (Phase(epochs=10, learning_rate=3e-3, wide=NARROW), Phase(epochs=1, learning_rate=1e-3))
"""The fast schedule: a narrow network, which grows into the full one for the last epoch, with SOAP. It takes a tenth of
the work."""


@dataclass(frozen=True)
class CodecPlan:
    """A plan for the codec: one phase, whose parts are given as shares of its steps."""

    size: Size
    steps: int = 5000  # about; whole epochs are trained
    batch: int = 192  # images a step, over all processes
    seed: int = 0
    validation: float = 0.05  # share of the images held out, but no more than `most_validation`
    most_validation: int = 2000
    learning_rate: float = 4e-3  # cosine to 0 after a warm-up
    warm_up: int = 200  # steps
    spatial: tuple[float, float] = (
        0.0,
        0.0,
    )  # shares of the steps: no spatial latents before the first; from the second on their bits count in full
    mixed: float = 0.4  # share of the steps after which the synthesis sees rounded latents
    exact: float = 0.72  # share of the steps after which the decoder is computed as its integers will be
    rounded: float = 0.88  # share after which the prior sees rounded latents too, and the analysis stays as it is
    start: str | None = None  # id of the model whose weights are the first ones
    quality: float | None = None  # train for this quality (0 to 1) alone, to see what serving all of them costs


FURTHER: dict[str, Any] = {"spatial": (0.0, 0.0), "mixed": 0.2, "exact": 0.5, "rounded": 0.85, "learning_rate": 2e-3}
"""The fields of a `CodecPlan` that differ if it starts from a trained model."""


@dataclass(frozen=True)
class AutoencoderPlan:
    """A plan for the autoencoder."""

    phases: tuple[Phase, ...] = FAST
    batch: int = 32  # images a step, over all processes
    seed: int = 0  # of the split, and the first one tried for weights and order
    validation: float = 0.2  # share of the images held out
    warm_up: int = 300  # steps over which a decaying learning rate first rises


@dataclass(frozen=True)
class Hardware:
    """The devices to train on and the precision of the arithmetic, in the words of Lightning Fabric."""

    accelerator: str = "auto"  # "cpu", "cuda", or "auto", which takes CUDA where there is any
    devices: int = 1  # processes or GPUs
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
