# SPDX-License-Identifier: MIT
"""smalti: learned compression for collections of small images.

>>> import numpy as np, smalti
>>> data = smalti.encode(np.zeros((28, 28), np.uint8))
>>> smalti.decode(data).dtype
dtype('uint8')
"""

import importlib
from typing import TYPE_CHECKING, Any

from smalti.archive.archive import Archive
from smalti.archive.archive import open_archive as open
from smalti.errors import SmaltiError
from smalti.model.bundle import load_model
from smalti.model.model import Model
from smalti.types import ImageSet, Source

if TYPE_CHECKING:
    from smalti.api import Unpacked, decode, encode, load, pack, unpack
    from smalti.archive.edit import append, merge, select
    from smalti.archive.editing.change import compact, remove, replace
    from smalti.archive.repair import Repaired, repair
    from smalti.archive.verify import verify
    from smalti.archive.writer import Packed, Packing
    from smalti.rate.target import Target

__version__ = "0.1.0"
__all__ = [
    "Archive",
    "ImageSet",
    "Model",
    "Packed",
    "Packing",
    "Repaired",
    "SmaltiError",
    "Source",
    "Target",
    "Unpacked",
    "__version__",
    "append",
    "compact",
    "decode",
    "encode",
    "load",
    "load_model",
    "merge",
    "open",
    "pack",
    "remove",
    "repair",
    "replace",
    "select",
    "unpack",
    "verify",
]

_HOME = {
    "Packed": "archive.writer",
    "Packing": "archive.writer",
    "Repaired": "archive.repair",
    "Target": "rate.target",
    "Unpacked": "api",
    "append": "archive.edit",
    "compact": "archive.editing.change",
    "decode": "api",
    "encode": "api",
    "load": "api",
    "merge": "archive.edit",
    "pack": "api",
    "remove": "archive.editing.change",
    "repair": "archive.repair",
    "replace": "archive.editing.change",
    "select": "archive.edit",
    "unpack": "api",
    "verify": "archive.verify",
}
"""The modules of the public names that reading a file does not need, each imported when such a name is first used."""


def __getattr__(name: str) -> Any:
    if name == "torch":  # a module that needs torch, so it is none of the public names of every installation
        return importlib.import_module("smalti.torch")
    if name not in _HOME:
        raise AttributeError(f"module 'smalti' has no attribute {name!r}")
    module = importlib.import_module(f"smalti.{_HOME[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
