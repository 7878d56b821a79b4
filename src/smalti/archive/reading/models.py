# SPDX-License-Identifier: MIT
"""Share the models that files hold: each is checked and loaded once, however many readers and threads need it."""

import functools

from smalti.model.bundle import parse_bundle
from smalti.model.model import Model
from smalti.util.parallel import ForkLock

_LOADING = ForkLock()


def embedded_model(bundle: bytes) -> Model:
    """Return the model of a bundle that a file holds.

    Raises:
        ModelError: it is damaged, or is no bundle.
    """
    with _LOADING:
        return _parse_once(bundle)


@functools.lru_cache(maxsize=4)
def _parse_once(bundle: bytes) -> Model:
    return parse_bundle(bundle, trusted=False)
