# SPDX-License-Identifier: MIT
"""smalti: learned compression for collections of small images.

>>> import numpy as np, smalti
>>> data = smalti.encode(np.zeros((28, 28), np.uint8))
>>> smalti.decode(data).dtype
dtype('uint8')
"""

import importlib
from typing import TYPE_CHECKING, Any

from smalti.errors import SmaltiError

if TYPE_CHECKING:
    from smalti.api import Packed, Unpacked, decode, encode, load, pack, unpack
    from smalti.api import open_archive as open
    from smalti.assemble import append, merge, select
    from smalti.bundle import load_model
    from smalti.images import ImageSet, Source
    from smalti.mend import Repaired, repair, verify
    from smalti.model import Model
    from smalti.packing import Packing
    from smalti.sequence import Archive

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
    "Unpacked",
    "__version__",
    "append",
    "decode",
    "encode",
    "load",
    "load_model",
    "merge",
    "open",
    "pack",
    "repair",
    "select",
    "unpack",
    "verify",
]

_HOME = {
    "Archive": "sequence",
    "ImageSet": "images",
    "Model": "model",
    "Packed": "api",
    "Packing": "packing",
    "Repaired": "mend",
    "Source": "images",
    "Unpacked": "api",
    "append": "assemble",
    "decode": "api",
    "encode": "api",
    "load": "api",
    "load_model": "bundle",
    "merge": "assemble",
    "open": "api.open_archive",
    "pack": "api",
    "repair": "mend",
    "select": "assemble",
    "unpack": "api",
    "verify": "mend",
}
"""Where each public name lives; it is imported when first asked for, so that `import smalti` costs nothing."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'smalti' has no attribute {name!r}")
    module, _, alias = _HOME[name].partition(".")
    value = getattr(importlib.import_module(f"smalti.{module}"), alias or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
