# SPDX-License-Identifier: MIT
"""Train the post-filter at last on what the encoder really gives, when the pixel prior is fixed.

Until then it has seen samples rounded to levels. The encoder also weighs bits against error (rate-distortion
optimisation), which makes another kind of noise.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from smalti.codec.batching import block_images
from smalti.codec.pixel_codec import quantise
from smalti.model.operating_points import LMBDA
from smalti.model.pixel_prior import MAX_ERROR, SAMPLE_MAX, PixelPrior
from smalti.training.networks.post_filter import PostFilter
from smalti.training.optimizer import soap

IMAGES = 8192
"""The number of images of 28x28 samples to train on; of larger images it is as many times smaller."""
ROUNDS = 12
"""How often each image is used."""
BATCH = 32
LEARNING_RATE = 3e-3
LEAST_STEP = 4.0
"""The least step between levels; steps are drawn from it up to the largest, evenly on a log scale."""
EXACT = 0.4
"""The share of the steps after which everything is computed with the values of integers."""


def settle(
    post_filter: PostFilter,
    prior: PixelPrior,
    pixels: NDArray[np.uint8],
    seed: int = 0,
    *,
    share: float = 1.0,
    parts: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Train `post_filter` on images (`n h w` or `n h w c`) as coded with `prior`.

    share: of the images that are usually taken, so that this does not dwarf a short training.
    progress: is called `parts` times while this goes on.
    """
    x = pixels[: max(BATCH, round(share * IMAGES * 784 / pixels[0].size))]
    rng = np.random.default_rng(seed)
    steps = LEAST_STEP * ((2 * MAX_ERROR + 1) / LEAST_STEP) ** rng.random(len(x))
    errors = np.rint((steps - 1) / 2).astype(np.int64)
    block = block_images((*x.shape[1:], 1)[:3])
    pieces = [slice(i, i + block) for i in range(0, len(x), block)]
    coded = np.concatenate([quantise([x[piece]], errors[piece], prior, LMBDA)[0][0] for piece in pieces])
    originals, samples = (torch.from_numpy(_planes(images)) for images in (x, coded))
    torch.manual_seed(seed)
    optimizer, rounds = soap(post_filter.parameters(), LEARNING_RATE, 256), ROUNDS * math.ceil(len(x) / BATCH)
    post_filter.train()
    for step in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = max(1e-6, LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / rounds)))
        some = torch.randint(len(x), (BATCH,))
        of_some = torch.from_numpy(errors)[some]
        off = post_filter(samples[some].float(), of_some, exact=step > EXACT * rounds) - originals[some]
        loss = (off.square().mean((1, 2, 3)) / (2 * of_some + 1) ** 2).mean() * SAMPLE_MAX
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        for _ in range(parts * (step + 1) // rounds - parts * step // rounds):
            progress()
    post_filter.eval()


def _planes(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images as `n c h w`."""
    planes = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(planes)
