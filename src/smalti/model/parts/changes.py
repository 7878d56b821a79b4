# SPDX-License-Identifier: MIT
"""The changes of a tuned model: what is added to the integers of the transform of its base.

A transform that was trained further on one collection differs from that of its base in few weights and by little, so
that its differences take a tenth of its bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from smalti.model.mixing.mixer import mixer_arrays, mixer_from
from smalti.model.model import Model
from smalti.model.npz import npz_bytes, read_npz, zip_bytes
from smalti.model.parts.member_names import CHANGES, MANIFEST, MIXING
from smalti.model.transform.transform import Transform, transform_arrays, transform_from

SHIFTS = "shifts"
"""The array that holds, for each other one in its place, by how many bits its differences are shifted to the left."""
MAX_SHIFT = 30
_TYPES = np.int8, np.int16, np.int32


def bundle_on_base(
    version: int, name: str, base: bytes, members: Mapping[str, bytes], training: Mapping[str, Any]
) -> bytes:
    """Return the bundle, of that version, of a model that changes another, its base, whose id is given."""
    sums = {member: hashlib.sha256(data).hexdigest() for member, data in members.items()}
    about = {"smalti_model": version, "name": name, "decoder": {"base": base.hex()}, "sha256": sums}
    return zip_bytes({MANIFEST: json.dumps(about | {"training": dict(training)}).encode()} | dict(members))


def tuned_members(model: Model, base: Model) -> dict[str, bytes]:
    """Return the members of the bundle of a tuned model: those of its parts that are not those of its base.

    Raises:
        ValueError: the base does not code by mixing and by transform, or the transforms are of other sizes.
    """
    if model.mixer is None or base.mixer is None or model.transform is None or base.transform is None:
        raise ValueError(f"the base {base.name} of a tuned model does not code by mixing and by transform")
    mixing = npz_bytes(mixer_arrays(model.mixer))
    members = {} if mixing == npz_bytes(mixer_arrays(base.mixer)) else {MIXING: mixing}
    return members | {CHANGES: changes_member(base.transform, model.transform)}


def tuned_model(
    base: Model, members: Mapping[str, bytes], name: str, training: Mapping[str, Any], model_id: bytes, size: int
) -> Model:
    """Return the model that comes of a base and the members of a tuned one.

    Args:
        base: the base.
        members: of the bundle.
        name: of the tuned model.
        training: its provenance.
        model_id: its id.
        size: of its bundle, in bytes.

    Raises:
        KeyError, ValueError: a member is damaged, or the base does not code by mixing and by transform.
    """
    if base.transform is None or base.mixer is None:
        raise ValueError(f"the base {base.name} of a tuned model does not code by mixing and by transform")
    mixer = mixer_from(read_npz(members[MIXING])) if MIXING in members else base.mixer
    transform = changed_transform(base.transform, members[CHANGES])
    about = replace(base, name=name, id=model_id, training=training, size=size)
    return replace(about, mixer=mixer, transform=transform, base=base.id)


def changes_member(base: Transform, tuned: Transform) -> bytes:
    """Return the member of a bundle that makes the transform of a base that of a tuned model.

    Raises:
        ValueError: the transforms are of other sizes.
    """
    arrays, shifts = {}, list[int]()
    after = transform_arrays(tuned)
    for name, before in transform_arrays(base).items():
        if before.shape != after[name].shape:
            raise ValueError(f"the array {name} of a tuned transform has another shape than that of its base")
        differences = after[name].astype(np.int64) - before
        if differences.any():
            shift = int(np.bitwise_or.reduce(np.abs(differences), axis=None))
            shifts.append((shift & -shift).bit_length() - 1)
            differences >>= shifts[-1]
            largest = int(np.abs(differences).max())
            dtype = next(some for some in _TYPES if largest <= np.iinfo(some).max)
            arrays[name] = differences.astype(dtype)
    return npz_bytes(arrays | {SHIFTS: np.array(shifts, np.uint8)})


def changed_transform(base: Transform, data: bytes) -> Transform:
    """Return the transform that comes of a base and the member that says what is added.

    `check_transform` has to look at what comes of it where the member is not trusted.

    Raises:
        KeyError, ValueError: the member is damaged, or does not go with the base.
    """
    changes = read_npz(data)
    shifts = changes.pop(SHIFTS)
    if shifts.dtype != np.uint8 or shifts.shape != (len(changes),) or (shifts > MAX_SHIFT).any():
        raise ValueError("the shifts of the changes of a model are of another type or number, or too large")
    arrays = transform_arrays(base)
    for (name, differences), shift in zip(changes.items(), shifts.tolist(), strict=True):
        before = arrays[name]
        if differences.dtype not in _TYPES or differences.shape != before.shape:
            raise ValueError(f"the changes of {name} are of another type or shape")
        after = before + (differences.astype(np.int64) << shift)
        limits = np.iinfo(before.dtype)
        if after.min(initial=0) < limits.min or after.max(initial=0) > limits.max:
            raise ValueError(f"the changes of {name} go beyond its numbers")
        arrays[name] = after.astype(before.dtype)
    return transform_from(arrays)
