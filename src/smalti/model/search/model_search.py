# SPDX-License-Identifier: MIT
"""The search of latents for a model: its networks as stages of the compiled core, made once for each kernel."""

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core, core
from smalti.core.search import MULTIPLE, PackedNet, PatchSearch, Places, StageArrays
from smalti.entropy.frequencies import LOG2
from smalti.model.latent_prior import COMPONENTS, LATENT_MAX
from smalti.model.masked_mlp import ACTIVATION_MAX, MaskedMLP, embedding_weights
from smalti.model.model import FEATURES, SYNTHESIS, Model
from smalti.model.proof.onnx_reader import read_onnx
from smalti.model.search.stages import MOST_TAPS, Layout, Unsuited

STRETCH = 64
"""The fewest units of a position of the prior."""

Ints = NDArray[np.int64]


class ModelSearch:
    """The search of the latents of a model's images, at any operating point.

    Raises:
        Unsuited: the networks of the model have a part that is no stage.
    """

    def __init__(self, model: Model, found: Core) -> None:
        shapes: dict[str, tuple[int, ...]] = {"v": (model.patches, model.latents)}
        if model.spatial is not None:
            shapes["u"] = (1, *model.spatial_shape)
        self._layout = layout = Layout(shapes)
        given = dict(layout.inputs)
        if model.spatial is not None:
            given["features"] = layout.add(read_onnx(model.networks[FEATURES]), layout.inputs)
            if layout.stages[-1].high > ACTIVATION_MAX:
                raise Unsuited
        result = layout.add(read_onnx(model.networks[SYNTHESIS]), given)
        layout.number()
        if layout.stages[-1].high >= len(layout.table) or result.of_one() is not layout.stages[-1].units:
            raise Unsuited
        inputs = [x.of_one() for x in layout.inputs.values()]
        image = PackedNet(found, [units.rows for units in inputs], [stage.arrays() for stage in layout.stages])
        sizes, stages, sums = prior_stages(model.prior.mlp)
        every = np.arange(model.patches * model.latents)
        pixels = result.of_one().places(result.at[0].transpose(1, 2, 0).ravel())
        self._places = Places(inputs[0].places(every), every[: model.latents], sums, pixels, layout.table)
        self._core, self._nets, self._model = found, (image, PackedNet(found, sizes, stages)), model
        self._at = dict[int, PatchSearch]()

    def at(self, point: int) -> PatchSearch:
        """Return the search at an operating point."""
        if point not in self._at:
            model, weights = self._model, embedding_weights(np.array([point]))[0]
            image, prior = (net.at(weights) for net in self._nets)
            grid = model.grid.steps[point], model.grid.low[point], model.grid.high[point]
            cdf, inverse, limit = model.prior.logistics.lookup
            tables = cdf, model.prior.logistics.weights, inverse, limit
            self._at[point] = PatchSearch(
                self._core,
                (image, prior),
                tables,
                grid,
                self._places,
                most=LATENT_MAX,
                components=COMPONENTS,
                log2s=LOG2,
            )
        return self._at[point]

    def units(self, u: Ints) -> NDArray[np.int16]:
        """Return the inputs of the network of images: spatial latents `u` (`c H W`) in their places, and zeros."""
        units = np.zeros(sum(x.at.size for x in self._layout.inputs.values()), np.int16)
        if "u" in self._layout.inputs:
            input_units = self._layout.inputs["u"].of_one()
            units[input_units.places(np.arange(u.size))] = u.ravel()
        return units


def model_search(model: Model) -> ModelSearch | None:
    """Return the search of a model in the compiled core, or None if numpy has to do it."""
    found = core()
    if found is None:
        return None
    known: dict[int, ModelSearch | None] = model.__dict__.setdefault("_searches", {})
    if found.kernel not in known:
        try:
            known[found.kernel] = ModelSearch(model, found)
        except Unsuited:
            known[found.kernel] = None
    return known[found.kernel]


def prior_stages(mlp: MaskedMLP) -> tuple[list[tuple[int, int]], list[StageArrays], Ints]:
    """Return a masked MLP without context as a network: its inputs, its stages, and where the outputs of latents are.

    Positions are stretches of latents, so that what a latent does not see is left out.
    """
    n, units, outputs = mlp.latents, len(mlp.b1) // mlp.latents, len(mlp.b3) // mlp.latents
    step = mlp.group * max(1, -(-STRETCH // (mlp.group * max(units, outputs))))
    while -(-n // step) > MOST_TAPS:
        step += mlp.group
    latent, stages, count = np.arange(n) // mlp.group, list[StageArrays](), -(-n // step)
    for i, (inputs, each) in enumerate(((1, units), (units, units), (units, outputs))):
        w, b, q, s = (getattr(mlp, name + str(i + 1)) for name in "wbqs")
        reads, made = latent.repeat(inputs), latent.repeat(each)
        masked = (w * ((reads < made[:, None]) if i == 0 else (reads <= made[:, None]))).astype(np.int16)
        masked = np.pad(masked, ((0, count * step * each - len(b)), (0, count * step * inputs - masked.shape[1])))
        rows, wide = count if i else 1, step * inputs if i else n + n % 2
        masked = masked[:, : n + n % 2] if i == 0 else masked
        parts, where = list[NDArray[np.int16]](), np.full((count, rows, 2), -1)
        for to in range(count):
            for row in range(rows if i == 0 else to + 1):
                part = masked[to * step * each : (to + 1) * step * each, row * wide : (row + 1) * wide]
                where[to, row] = (row if i == 0 else 1 + (i - 1) * count + row), len(parts) * (wide // 2)
                parts.append(part.reshape(step * each, wide // 2, 2).transpose(1, 0, 2))
        where[where[..., 0] < 0] = -1, 0
        more = None if i != 1 else (n + np.arange(count) * step * units).astype(np.int32)
        bias, shift, *embeddings = (
            np.pad(array.astype(np.int64), (0, count * step * each - len(b))).reshape(count, -1) for array in (b, s, *q)
        )
        stages.append(
            StageArrays(
                1,
                where.astype(np.int32),
                more,
                np.concatenate(parts),
                bias,
                np.stack(embeddings),
                shift,
                ACTIVATION_MAX,
                is_last=i == 2,
            )
        )
    padded = step * outputs + -(step * outputs) % MULTIPLE
    return [(1, n)], stages, np.arange(n) // step * padded + np.arange(n) % step * outputs
