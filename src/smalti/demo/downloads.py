# SPDX-License-Identifier: MIT
"""Public data sets: their URLs, checksums and download into the user's cache (needs pooch)."""

import os
from collections.abc import Sequence
from pathlib import Path

from smalti.errors import DownloadError, MissingExtraError

CACHE = "SMALTI_CACHE"
"""The environment variable that names a folder for downloads, instead of the user's cache."""

_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
}
_SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }
}


def fetch(
    name: str, mirrors: Sequence[str] | None = None, sha256: dict[str, str] | None = None, *, progress: bool = True
) -> list[Path]:
    """Return the files of the data set `name` (only "mnist" so far), downloaded unless they are in the cache.

    `mirrors` are URLs that end in "/" and are tried in turn; `sha256` gives the checksum of each file. Both are the
    public ones unless they are given.

    Raises:
        MissingExtraError: pooch is not installed.
        DownloadError: no mirror gives a file with the right checksum.
    """
    try:
        import pooch
    except ModuleNotFoundError as exc:
        raise MissingExtraError("downloading", "data") from exc
    pooch.get_logger().setLevel("ERROR")
    folder = Path(os.environ.get(CACHE) or pooch.os_cache("smalti")) / name
    paths = []
    for file, digest in (sha256 or _SHA256[name]).items():
        failures = []
        for mirror in mirrors or _MIRRORS[name]:
            try:
                paths.append(
                    Path(pooch.retrieve(mirror + file, f"sha256:{digest}", file, folder, progressbar=progress))
                )
                break
            except Exception as exc:  # noqa: BLE001 - pooch lets through what requests, urllib and the disk raise
                failures.append(f"{mirror}: {type(exc).__name__}")
        else:
            raise DownloadError(
                f"cannot download {file} ({'; '.join(failures)}); check the network, or put the file in {folder}"
            )
    return paths
