# SPDX-License-Identifier: MIT
"""The tree of all errors that smalti raises on purpose.

    SmaltiError                  the root: whoever catches it catches them all
    ├── UsageError               an argument or option is wrong, whatever files hold: exit code 2 on the command line
    │   ├── UnknownModelError    no model of that name or id is known
    │   ├── SeveralShapesError   images differ in shape where one array of them is asked for
    │   ├── OutputExistsError    the target exists and may not be replaced
    │   └── MissingExtraError    an optional dependency is not installed
    ├── SourceError              the images are missing, cannot be read, or do not suit the model
    ├── OutputError              the target cannot be written: the disk is full, permission is missing, ...
    ├── FormatError              a smalti file cannot be read
    │   ├── NotSmaltiError       it does not start like a smalti file
    │   ├── VersionError         this release does not know its format version
    │   ├── TruncatedError       its end is missing
    │   └── CorruptError         a checksum or a field of it is wrong
    ├── ModelError               a model bundle cannot be read or run
    ├── DownloadError            a data set cannot be downloaded
    └── TrainingError            training cannot start or go on

A message is one line: what came, what was expected, where, and what to do.
"""

import contextlib
from collections.abc import Iterator


class SmaltiError(Exception):
    """The root of all errors of smalti; `exit_code` is the exit code of the command line."""

    exit_code = 1


class UsageError(SmaltiError):
    """An argument or option is wrong, or does not go with the others."""

    exit_code = 2


class UnknownModelError(UsageError):
    """No model of that name or id is built in or on the search path."""


class SeveralShapesError(UsageError, AttributeError):
    """Images differ in shape where one array of them is asked for; so `hasattr` finds that they have no `shape`."""


class OutputExistsError(UsageError):
    """The target exists and may not be replaced."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an optional part of smalti; install it with: pip install "smalti[{extra}]"')


class SourceError(SmaltiError):
    """The source of images cannot be read, or its images do not suit the model."""


class OutputError(SmaltiError):
    """The target cannot be written: the disk is full, permission is missing, ..."""


class FormatError(SmaltiError):
    """A smalti file cannot be read."""


class NotSmaltiError(FormatError):
    """The file does not start like a smalti file."""


class VersionError(FormatError):
    """The file has a format version that this release does not know."""


class TruncatedError(FormatError):
    """The end of the file is missing."""


class CorruptError(FormatError):
    """A checksum or a field of the file is wrong."""


class ModelError(SmaltiError):
    """A model bundle cannot be read or run."""


class DownloadError(SmaltiError):
    """A data set cannot be downloaded, or has another checksum than it should have."""


class TrainingError(SmaltiError):
    """Training cannot start or go on."""


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """Put `where` (a file, or a place in it) before the messages of FormatErrors that the block raises, but only once.

    >>> with within("x.smalti"):
    ...     raise TruncatedError("the end is missing")
    Traceback (most recent call last):
    smalti.errors.TruncatedError: x.smalti: the end is missing
    """
    try:
        yield
    except FormatError as exc:
        if str(exc).startswith(where):
            raise
        raise type(exc)(f"{where}: {exc}") from exc
