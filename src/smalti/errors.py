# SPDX-License-Identifier: MIT
"""Every error that smalti raises on purpose.

    SmaltiError                  catch this one to catch them all
    ├── UsageError               what was asked for cannot be asked: exit code 2 on the command line
    │   ├── UnknownModelError    no model of that name or id
    │   ├── OutputExistsError    the target is there already and may not be replaced
    │   └── MissingExtraError    an optional dependency is not installed
    ├── SourceError              the images: missing, empty, not images, not of the model's size or colour
    ├── OutputError              the target cannot be written: disk full, no permission
    ├── FormatError              a smalti file that cannot be read
    │   ├── NotSmaltiError       it does not start like one
    │   ├── VersionError         it is of a version that this release does not know
    │   ├── TruncatedError       its end is missing
    │   └── CorruptError         a checksum or a field is wrong
    ├── ModelError               a model bundle that cannot be read or run
    ├── DownloadError            a data set cannot be had
    └── TrainingError            training cannot start or go on

A message is one line: what came, what was expected, where, and what to do.
"""

import contextlib
from collections.abc import Iterator


class SmaltiError(Exception):
    """Root of all errors of smalti; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(SmaltiError):
    """What was asked for cannot be asked."""

    exit_code = 2


class UnknownModelError(UsageError):
    """No model of that name or id is built in or on the search path."""


class OutputExistsError(UsageError):
    """The target exists and may not be replaced."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an optional part of smalti; install it with: pip install "smalti[{extra}]"')


class SourceError(SmaltiError):
    """The source of images cannot be read, or its images do not suit the model."""


class OutputError(SmaltiError):
    """The target cannot be written."""


class FormatError(SmaltiError):
    """A smalti file cannot be read."""


class NotSmaltiError(FormatError):
    """The file does not start like a smalti file."""


class VersionError(FormatError):
    """The file is of a format version that this release does not know."""


class TruncatedError(FormatError):
    """The end of the file is missing."""


class CorruptError(FormatError):
    """A checksum or a field of the file is wrong."""


class ModelError(SmaltiError):
    """A model bundle cannot be read or run."""


class DownloadError(SmaltiError):
    """A data set cannot be downloaded, or is not what it should be."""


class TrainingError(SmaltiError):
    """Training cannot start or go on."""


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """Errors of reading a file say which one it is, and where in it, unless they do already.

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
