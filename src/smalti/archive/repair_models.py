# SPDX-License-Identifier: MIT
"""Find the models that the blocks of a damaged archive need, by ids or by decoding."""

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smalti.codec.batching import RAW
from smalti.codec.block_codec import decode_block
from smalti.codec.payload.head import LATENTS, MIXING, PIXELS, TRANSFORM
from smalti.container.format import BlockHead
from smalti.container.index import Index
from smalti.container.mixed_payload import Part, mixed_hash, unpack_mixed
from smalti.container.recovery_scan import Found
from smalti.errors import CorruptError, ModelError, UnknownModelError
from smalti.model.bundle import find_by_prefix, find_model, parse_bundle
from smalti.model.empty_model import empty_model
from smalti.model.model import Model
from smalti.util.binary import hash64


@dataclass(frozen=True)
class Needed:
    """A model that blocks of the file need."""

    id: bytes
    model: Model | None  # None: it is neither known here nor in the file
    bundle: bytes | None  # the bundle of the model, if the file holds it
    note: str | None  # for the user


def needed_models(found: Found, index: Index | None, given: Model | None) -> dict[int, Needed]:
    """Return the models of all blocks that were found, by their number in the file; no two are the same.

    The ids in the index are believed. The header's id has no checksum: it is believed unless it is that of no known
    model and another one decodes the blocks. Where the id is lost, a model is taken that decodes all blocks of
    that number.

    Raises:
        UnknownModelError: no known model decodes them.
    """
    blocks, shared = _by_model(found)
    told = {} if found.model_id is None else {0: found.model_id}
    told |= {number: entry.id for number, entry in enumerate(index.models)} if index else {}
    brought = {number: _parsed(found.models.get(number)) for number in blocks}
    telling = {n: [some for some in mine if some[0].kind.mixed or _tells(some[1])] for n, mine in blocks.items()}
    needed = dict[int, Needed]()
    at_hand = {n: _at_hand(told.get(n), [some for some in (brought[n], given) if some is not None]) for n in blocks}
    together = _together(shared, {n: model for n, model in at_hand.items() if model is not None}, given)
    for number in sorted(blocks, key=lambda n: (n not in told, brought[n] is None, not telling[n], n)):
        likely, note = [model for model in (brought[number], given) if model is not None], None
        model_id, model = told.get(number), _at_hand(told.get(number), likely)
        if model_id is None or (model is None and index is None and telling[number]):
            taken = {some.id for some in needed.values()} | {some.id for n, some in together.items() if n != number}
            left = [some for some in [*likely, *find_by_prefix(b"")] if some.id not in taken]
            if (model := together.get(number)) is None or model.id in taken:
                model = next(iter(_decoding(left, telling[number])), None)
        if model is not None and model.id != model_id:
            model_id = model.id
            note = f"the id of a model is lost: {model.name} is taken, which decodes all blocks that were coded by it"
        if model_id is None:
            raise UnknownModelError("it cannot be told which model it needs; name it with --model")
        if model is None:
            note = f"model {model_id.hex()} is neither known here nor in the file; its images need its bundle"
        mine = brought[number]
        bundle = found.models[number] if mine is not None and mine.id == model_id else None
        needed[number] = Needed(model_id, model, bundle, note)
    return needed


def _by_model(
    found: Found,
) -> tuple[dict[int, list[tuple[BlockHead, bytes]]], list[tuple[BlockHead, list[Part]]]]:
    """Return blocks by the numbers of the models that they need, and the mixed blocks that need several."""
    blocks = dict[int, list[tuple[BlockHead, bytes]]]()
    shared = list[tuple[BlockHead, list[Part]]]()
    for head, payload in found.blocks:
        if head.kind.mixed:
            parts = _parts(head, payload)
            telling_parts = {part.kind.model for part in parts if _tells(part.payload)}
            if len(telling_parts) > 1:
                shared.append((head, parts))
            for number in {part.kind.model for part in parts}:
                alone = telling_parts == {number}  # else its hash, which is of all parts, does not tell the model
                blocks.setdefault(number, []).extend([(head, payload)] * alone)
        else:
            blocks.setdefault(head.kind.model, []).append((head, payload))
    return blocks, shared


def _parts(head: BlockHead, payload: bytes) -> list[Part]:
    with contextlib.suppress(CorruptError):
        return unpack_mixed(payload, head.images)
    return []


def _parsed(bundle: bytes | None) -> Model | None:
    with contextlib.suppress(ModelError):
        return None if bundle is None else parse_bundle(bundle, trusted=False)
    return None


def _at_hand(model_id: bytes | None, likely: Iterable[Model]) -> Model | None:
    if model_id is None:
        return None
    with contextlib.suppress(UnknownModelError):
        return next((model for model in likely if model.id == model_id), None) or find_model(model_id)
    return None


def _tells(payload: bytes) -> bool:
    """Return whether a model is needed to decode a payload: images kept raw or by the fallback need none."""
    return payload[:1] != bytes([RAW]) and any(flags & (LATENTS | PIXELS | MIXING | TRANSFORM) for flags in payload[:1])


def _together(
    blocks: Sequence[tuple[BlockHead, list[Part]]], known: Mapping[int, Model], given: Model | None
) -> dict[int, Model]:
    """Return models, by number, with which mixed blocks that need several decode to what was packed."""
    found = dict(known)
    for head, parts in blocks:
        unknown = sorted({part.kind.model for part in parts if _tells(part.payload)} - found.keys())
        taken = {model.id for model in found.values()}
        tried = [model for model in [*filter(None, [given]), *find_by_prefix(b"")] if model.id not in taken]
        for some in itertools.permutations(tried, len(unknown)):
            models = found | dict(zip(unknown, some, strict=True))
            if _decode_together(head, parts, models):
                found = models
                break
    return found


def _decode_together(head: BlockHead, parts: Sequence[Part], models: Mapping[int, Model]) -> bool:
    try:
        decoded = [
            decode_block(part.payload, len(part.rows), part.kind.shape, models.get(part.kind.model, empty_model()))
            for part in parts
        ]
    except (CorruptError, ModelError):
        return False
    return mixed_hash([hash64(np.ascontiguousarray(pixels).data) for pixels in decoded]) == head.pixels


def _decoding(models: list[Model], blocks: Sequence[tuple[BlockHead, bytes]]) -> list[Model]:
    """Return the models that decode all of the blocks."""
    for head, payload in blocks:
        models = [model for model in models if _decodes(model, head, payload)]
        if not models:
            break
    return models


def _decodes(model: Model, head: BlockHead, payload: bytes) -> bool:
    try:
        mixed = unpack_mixed(payload, head.images) if head.kind.mixed else None
        parts = [Part(head.kind, tuple(range(head.images)), payload)] if mixed is None else mixed
        decoded = [decode_block(part.payload, len(part.rows), part.kind.shape, model) for part in parts]
    except (CorruptError, ModelError):
        return False
    hashes = [hash64(np.ascontiguousarray(pixels).data) for pixels in decoded]
    return (hashes[0] if mixed is None else mixed_hash(hashes)) == head.pixels
