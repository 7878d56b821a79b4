# SPDX-License-Identifier: MIT
"""The protocol of readers of smalti files: archives (`records.py`) and single images (`single_image.py`)."""

from typing import Protocol

from smalti.container.format import BlockHead
from smalti.container.index import Index
from smalti.util.storage import Storage


class Reader(Protocol):
    """The records of an open smalti file; a single image is seen as an archive of one block."""

    storage: Storage
    index: Index
    model_id: bytes  # of the first model
    count: int  # images that are shown
    end: int  # bytes of the smalti file, without what may follow it
    extended: bool  # whether the file says version 2
    stored_checksums: bool  # whether blocks have checksums of their stored bytes, not of their pixels alone

    def block(self, block: int, record: bytes | None = None) -> tuple[BlockHead, bytes]:
        """Return head and payload of a block; `record` is the record of one that permutation coding carries."""

    def decodes_to(self, head: BlockHead, pixels: bytes) -> bool:
        """Return whether a block of that head is whole, where it decodes to pixels of that hash."""

    def payload_bytes(self) -> int:
        """Return the bytes of all payloads."""

    def model(self, number: int) -> bytes | None:
        """Return the bundle of a model, if the file holds it."""

    def sections(self, code: int) -> list[tuple[int, bytes]]:
        """Return the number of images and the data of each section of that code, in order."""

    def section(self, code: int, number: int) -> tuple[int, bytes]:
        """Return the same of the section of that number (from 0) among those of that code."""

    def firsts(self, code: int) -> list[int]:
        """Return the number of the first image of each section of that code."""

    def has(self, code: int) -> bool:
        """Return whether there is a section of that code."""

    def close(self) -> None:
        """Close the storage."""
