# SPDX-License-Identifier: MIT
"""The training plan that users give: what is trained, and how. It needs neither numpy nor torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from smalti.errors import UsageError

if TYPE_CHECKING:
    from smalti.model.model import Model

CODEC_STEPS, PIXEL_STEPS = 2000, 1500
"""Training steps by default, of the part that codes by latents and of the part that codes by pixels."""
CODEC_BATCH, PIXEL_BATCH = 192, 32
"""Images in each of these steps by default; there are fewer of images that have more than 28x28 samples."""
MINUTES = 20.0
"""How long a training takes by default, about: its steps are fitted to that."""

Architecture = Literal["codec", "autoencoder"]
Schedule = Literal["fast", "reference"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained and how, the images apart.

    By default both parts of a codec are trained: the one that codes by latents, for few bytes, then the one that codes
    by pixels, for high qualities and without loss.

    Raises:
        UsageError: a field is out of range, or two fields do not go together.
    """

    architecture: Architecture = "codec"  # the autoencoder is the baseline, for gray images
    lossless: bool = False  # whether only the part that codes by pixels (or by mixing) is trained
    lossy: bool = False  # whether only the part that codes by transform is trained, of a model that has one
    minutes: float | None = (
        None  # of all together, about: the steps are fitted to it; None: MINUTES, unless `steps` is given
    )
    steps: int | None = None  # about, for each part: whole epochs are trained
    batch: int | None = None  # images a step, over all devices; None: CODEC_BATCH and PIXEL_BATCH
    start: "Model | Path | str | None" = None  # whose weights are the first ones; a part not trained stays as it is
    schedule: Schedule = "fast"  # of the autoencoder: narrow network first; or 20 epochs of Adam
    epochs: int | None = None  # of the autoencoder's first phase; None: 10 if fast, 20 if reference
    seed: int = 0  # of the split into training and validation images, the first weights and the order
    device: Device = "auto"  # to train on; auto takes CUDA where there is any
    devices: int = 1  # processes or GPUs
    precision: Precision = "32-true"  # of the arithmetic, as Lightning Fabric names it

    def __post_init__(self) -> None:
        for field, choices in (
            ("architecture", Architecture),
            ("schedule", Schedule),
            ("device", Device),
            ("precision", Precision),
        ):
            if (value := getattr(self, field)) not in get_args(choices):
                raise UsageError(f"{field} {value!r} is unknown; choose one of: {', '.join(get_args(choices))}")
        for field, least in (("steps", 1), ("batch", 1), ("epochs", 1), ("seed", 0), ("devices", 1)):
            value, optional = getattr(self, field), field in ("steps", "batch", "epochs")
            if not (optional and value is None) and (type(value) is not int or value < least):
                raise UsageError(f"{field} is {value!r}; give a whole number of at least {least}")
        self._check_minutes()
        if self.lossless and self.lossy:
            raise UsageError("--lossless and --lossy exclude each other; give neither to train both halves")
        if self.architecture == "autoencoder" and (self.start is not None or self.lossless):
            raise UsageError(
                "--from goes with the codec, and so does --lossless; the autoencoder is trained from scratch"
            )
        if self.epochs is not None and self.architecture != "autoencoder":
            raise UsageError("--epochs is for --architecture autoencoder; give --steps")

    def _check_minutes(self) -> None:
        minutes = self.minutes
        if minutes is None:
            return
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes < 1e6:
            raise UsageError(f"minutes is {minutes!r}; give a number above 0")
        if self.steps is not None:
            raise UsageError("--minutes chooses the steps; give it or --steps, not both")
        if self.architecture == "autoencoder":
            raise UsageError("--minutes is for the codec; give --epochs")
