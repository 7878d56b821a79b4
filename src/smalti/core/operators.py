# SPDX-License-Identifier: MIT
"""Networks in the compiled core: a program of steps, built once, that runs on any number of images.

Whoever builds a program gives shapes and bounds that were proven before. The core checks once more that each step stays
within its tensors.
"""

import ctypes
import itertools
import math
from collections.abc import Mapping, Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.core.library import Core
from smalti.core.memory import ALIGNMENT, address, aligned

ADD, SUBTRACT, MULTIPLY, DIVIDE, FLOOR, CLIP = range(6)
MAP, LINEAR, POOL, GATHER, COPY = range(5)
SMALL, FLOATS, MOST_CHANGES, MOST_AXES, OK = 16, 64, 8, 8, 0
"""SMALTI_SMALL, SMALTI_FLOATS, SMALTI_CHANGES, SMALTI_AXES and SMALTI_OK of `core/smalti.h`."""
SPACE = 1 << 22
"""The bytes of tensors that a program works on at a time; more would leave the processor's caches."""
INT16_MAX = 32767

Floats = NDArray[np.float32]
Places = NDArray[np.int32]


class _Tensor(ctypes.Structure):
    _fields_ = (("values", c_void_p), ("size", c_int64))


class _Change(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("kind", "tensor")),
        *((name, c_float) for name in ("low", "high")),
        ("values", c_void_p),
        ("each", c_int64),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("pairs", "outputs", "big")),
        *((name, c_void_p) for name in ("weights", "biases", "shifts", "scales")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("kind", "changes", "source", "target")),
        *((name, c_int64) for name in ("parts", "rows", "channels", "h", "w", "c", "k", "stride", "columns")),
        ("change", _Change * MOST_CHANGES),
        ("layer", _Layer),
        *((name, c_void_p) for name in ("scales", "weights")),
        ("scale", c_float),
        *((name, c_int32) for name in ("axes", "in_rows", "reserved")),
        ("sizes", c_int64 * MOST_AXES),
        *((name, c_void_p * MOST_AXES) for name in ("sources", "targets")),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("steps", "count")),
        *((name, c_void_p) for name in ("step", "tensors")),
        *((name, c_int32) for name in ("kernel", "reserved")),
    )


@dataclass(frozen=True)
class Change:
    """What is done to each number of a result: `smalti_change` of `core/smalti.h`."""

    kind: int
    tensor: int = -1
    each: int = 1
    values: Floats | None = None  # for each channel
    low: float = 0
    high: float = 0


@dataclass(frozen=True)
class Window:
    """Where the inputs of a linear step or of a pool are: `k` by `k` of each of the `parts` (`h w c`) of an image."""

    parts: int
    h: int
    w: int
    c: int
    k: int = 1
    stride: int = 1

    @property
    def columns(self) -> int:
        """Return how many places the window has in a row."""
        return (self.w - 1) // self.stride + 1

    @property
    def rows(self) -> int:
        """Return how many places the window has in a part."""
        return self.columns * ((self.h - 1) // self.stride + 1)


class Weights:
    """The weights of a linear step, as a kernel of the core takes them."""

    def __init__(self, core: Core, weights: Floats, units: Floats | None, unit: float = 1) -> None:
        """Pack weights (`outputs inputs`; inputs in the order k k c).

        units: powers of two that divide the weights of each output (`outputs`), if the sums are proven exact; unit: one
        that divides the inputs. None: the step sums in float32.
        """
        self.outputs, self.inputs = weights.shape
        self.units, self.unit = units, unit
        self.floats, self.scales = c_void_p(), c_void_p()
        self.layer = _Layer()
        if units is None:
            padded = np.pad(weights, ((0, -self.outputs % FLOATS), (0, 0))).reshape(-1, FLOATS, self.inputs)
            self._kept = [aligned(padded.transpose(0, 2, 1), np.float32)]
            self.floats = c_void_p(address(self._kept[0], np.float32))
            return
        whole = weights / units[:, None]
        assert np.abs(whole).max(initial=0) <= INT16_MAX
        size = core.library.smalti_big(core.kernel)
        big = self.outputs // size * size
        rest = -(-(self.outputs - big) // SMALL) * SMALL
        if rest > 2 * SMALL:  # a large block takes no longer than three small ones
            big, rest = big + size, 0
        pairs = -(-self.inputs // 2)
        padded = np.zeros((big + rest, 2 * pairs), np.int16)
        padded[: self.outputs, : self.inputs] = whole
        starts = [*range(0, big, size), *range(big, big + rest, SMALL), big + rest]
        blocks = [
            padded[start:end].reshape(end - start, pairs, 2).transpose(1, 0, 2).ravel()
            for start, end in itertools.pairwise(starts)
        ]
        none = np.zeros(big + rest, np.int32)
        packed = np.concatenate(blocks), none, np.ones(big + rest), units * np.float32(unit)
        dtypes: tuple[type[np.generic], ...] = (np.int16, np.int32, np.float32, np.float32)
        self._kept = [aligned(array, dtype) for array, dtype in zip(packed, dtypes, strict=True)]
        at = [address(array, dtype) for array, dtype in zip(self._kept, dtypes, strict=True)]
        self.layer = _Layer(pairs, big + rest, big, at[0], at[1], at[1], at[2])
        self.scales = c_void_p(at[3])


class Program:
    """The steps of a network and the sizes of its tensors."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sizes = list[int]()
        self._steps = list[_Step]()
        self._kept = list[Any]()
        self._places: list[int] | None = None  # of tensors in memory, for an image; -1: not there
        self._space = 0
        self._array: Any = None  # the steps, as the core takes them

    def tensor(self, size: int) -> int:
        """Add a tensor of so many numbers an image, and return its number."""
        self._sizes.append(size)
        return len(self._sizes) - 1

    def map(self, source: int, channels: int, changes: Sequence[Change]) -> int:
        """Add a step that changes each number of a tensor; return its result's number."""
        return self._step(MAP, source, (1, self._sizes[source] // channels, channels), changes)

    def linear(self, source: int, window: Window, weights: Weights, changes: Sequence[Change]) -> int:
        """Add a convolution or a matrix product; return its result's number."""
        step = self._window(window, weights)
        step.weights, step.scales, step.layer = weights.floats, weights.scales, weights.layer
        step.scale = 1 / weights.unit
        return self._step(LINEAR, source, (window.parts, window.rows, weights.outputs), changes, step)

    def pool(self, source: int, window: Window, changes: Sequence[Change]) -> int:
        """Add a step that takes the largest of two by two pixels; return its result's number."""
        step = self._window(window, None)
        step.columns = window.w // 2
        rows = window.w // 2 * (window.h // 2)
        return self._step(POOL, source, (window.parts, rows, window.c), changes, step)

    def gather(self, source: int, table: Floats, changes: Sequence[Change]) -> int:
        """Add a step that takes rows of a table (`entries channels`) for integers; return its result's number."""
        step = _Step(h=len(table), columns=1, weights=self._keep(table, np.float32))
        return self._step(GATHER, source, (1, self._sizes[source], table.shape[1]), changes, step)

    def copy(self, source: int, target: int, axes: Sequence[tuple[Places, Places]]) -> None:
        """Add a step that moves numbers; for each axis there are the places in the source and in the target."""
        axes = [axis for axis in axes if len(axis[0]) > 1 or axis[0][0] or axis[1][0]] or [axes[0]]
        last = axes[-1]
        in_rows = all((places == places[0] + np.arange(len(places))).all() for places in last)
        step = _Step(kind=COPY, source=source, target=target, axes=len(axes), in_rows=in_rows)
        for i, (sources, targets) in enumerate(axes):
            step.sizes[i] = len(sources)
            step.sources[i], step.targets[i] = self._keep(sources, np.int32), self._keep(targets, np.int32)
        self._steps.append(step)

    def _window(self, window: Window, weights: Weights | None) -> _Step:
        self._kept.append(weights)  # they live as long as this
        h, w, c, k, stride = window.h, window.w, window.c, window.k, window.stride
        return _Step(h=h, w=w, c=c, k=k, stride=stride, columns=window.columns)

    def _step(
        self,
        kind: int,
        source: int,
        shape: tuple[int, int, int],
        changes: Sequence[Change],
        step: _Step | None = None,
    ) -> int:
        """Add a step, and further ones if it changes more than one step can; return its result's number.

        shape: of the result for an image: parts, rows, channels.
        """
        step = _Step() if step is None else step
        now, later = changes[:MOST_CHANGES], changes[MOST_CHANGES:]
        target = self.tensor(math.prod(shape))
        step.kind, step.source, step.target = kind, source, target
        step.parts, step.rows, step.channels = shape
        step.changes = len(now)
        for i, change in enumerate(now):
            values = None if change.values is None else self._keep(change.values, np.float32)
            step.change[i] = _Change(change.kind, change.tensor, change.low, change.high, values, change.each)
        self._steps.append(step)
        return self.map(target, shape[2], later) if later else target

    def _keep(self, array: NDArray[Any], dtype: type[np.generic]) -> int:
        self._kept.append(aligned(array, dtype))
        return address(self._kept[-1], dtype)

    def _arrange(self, outside: Sequence[int]) -> tuple[list[int], int]:
        """Return the places of tensors in memory, and what they take for an image, all in numbers.

        outside: the tensors that are not in this memory. Those that are not needed at the same time share places.
        """
        first, last = dict[int, int](), dict[int, int]()
        for i, step in enumerate(self._steps):
            first.setdefault(step.target, i)
            for tensor in (step.source, step.target, *(step.change[k].tensor for k in range(step.changes))):
                last[tensor] = i
        places, taken, space = [-1] * len(self._sizes), list[tuple[int, int, int]](), 0
        for tensor in sorted(first.keys() - set(outside), key=lambda tensor: first[tensor]):
            size = -(-self._sizes[tensor] // SMALL) * SMALL
            taken = sorted(entry for entry in taken if entry[2] >= first[tensor])
            place = 0
            for start, end, _ in taken:
                if start - place >= size:
                    break
                place = max(place, end)
            places[tensor] = place
            taken.append((place, place + size, last[tensor]))
            space = max(space, place + size)
        return places, space

    def run(self, inputs: Mapping[int, Floats], outputs: Sequence[int], n: int, most: int) -> list[Floats]:
        """Return results (`n`, numbers of an image) for inputs (likewise); at most `most` are computed at a time.

        Raises:
            ValueError: a step does not stay within its tensors.
        """
        if self._places is None:  # threads may both do this; they find the same
            self._space, places = self._arrange([*inputs, *outputs])[::-1]
            self._array = (_Step * len(self._steps))(*self._steps)
            self._places = places
        results = {tensor: np.empty((n, self._sizes[tensor]), np.float32) for tensor in outputs}
        each = max(1, min(n, most, SPACE // (4 * max(1, self._space))))
        memory = np.empty(each * self._space * 4 + ALIGNMENT, np.uint8)
        start = memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
        steps = self._array
        tensors = (_Tensor * len(self._sizes))()
        program = _Program(
            len(steps), len(tensors), ctypes.addressof(steps), ctypes.addressof(tensors), self._core.kernel
        )
        arrays = {**inputs, **results}
        for tensor, size in enumerate(self._sizes):
            tensors[tensor].size = size
            assert tensor not in arrays or arrays[tensor].shape == (n, size)
        work = None
        for i in range(0, n, each):
            count = min(each, n - i)
            for tensor, size in enumerate(self._sizes):
                place = self._places[tensor]
                inside = start + 4 * place * each
                values = arrays.get(tensor)
                tensors[tensor].values = inside if values is None else address(values, np.float32) + 4 * i * size
            if work is None:
                needed = self._core.library.smalti_network_work(ctypes.byref(program), count)
                if needed < 0:
                    raise ValueError("a step of a network does not stay within its tensors")
                work = np.empty(needed, np.uint8)
            code = self._core.library.smalti_run(ctypes.byref(program), count, address(work, np.uint8))
            assert code == OK, code
        return [results[tensor] for tensor in outputs]
