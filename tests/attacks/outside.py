# SPDX-License-Identifier: MIT
"""Names that climb out of a target, and damaged files that are to be repaired."""

import struct
from pathlib import Path

from attacks.attack import GRAY, RAW, attack, raw, repair, unpack, unpack_tar
from attacks.build import Torn, archive_of, block_of
from attacks.contents import said

import smalti
from smalti.container import format as fmt

# Names that climb out


def named(*names: str) -> bytes:
    return said(fmt.NAMES, b"\0" + b"\0".join(name.encode() for name in names), len(names))


def _climbs(name: str, text: str, work=unpack, error: str = "CorruptError", words: str = "no safe path") -> None:
    def make():
        return named(text)

    make.__name__, make.__doc__ = name, f"An image named `{text if len(text) < 40 else text[:9] + '...'}`."
    attack(work, error, words)(make)


for _name, _text in {
    "name_of_a_parent": "../climbed.png",
    "name_that_is_absolute": "/climbed.png",
    "name_over_two_parents": "a/../../climbed.png",
    "name_of_a_dot": "./climbed.png",
    "name_of_an_empty_part": "a//climbed.png",
    "name_of_two_dots": "..",
}.items():
    _climbs(_name, _text, error="", words="1 name is written otherwise")
_climbs("name_2000_levels_deep", "a/" * 2000 + "climbed.png")
for _name, _text in {
    "name_of_a_drive": "C:\\climbed.png",
    "name_of_a_device": "sub/CON.png",
    "name_of_a_stream": "x.png:climbed",
    "name_with_a_backslash": "..\\climbed.png",
    "name_that_ends_in_a_dot": "a./climbed.png",
}.items():
    _climbs(_name, _text, unpack_tar, error="", words="1 name is written otherwise")
_climbs("name_in_a_tar_of_a_parent", "../climbed.png", unpack_tar, error="", words="1 name is written otherwise")


@attack(unpack, "OutputError", "its name is too long|cannot write")
def name_of_a_part_of_4000_bytes():
    """A name that no file system takes."""
    return named("x" * 4000)


@attack(unpack, "", "1 name is written otherwise")
def names_that_are_one_file():
    """Two names that differ by `.png` alone."""
    return named("a", "a.png")


@attack(unpack, "OutputError", "two images would be")
def name_within_a_file():
    """A name that lies within the file of another."""
    return named("a.png", "a.png/climbed.png")


@attack(unpack, "OutputExistsError", "leads elsewhere")
def target_with_a_link_to_a_folder(folder: Path):
    """A folder of the target that is a link to somewhere else."""
    (folder / "out").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "out" / "a").symlink_to(folder / "elsewhere")
    (folder / "x.smalti").write_bytes(named("a/climbed.png"))
    return folder / "x.smalti"


@attack(unpack, "", "")
def target_with_a_link_to_a_file(folder: Path):
    """A file of the target that is a link: it is replaced, what it leads to stays."""
    (folder / "out").mkdir()
    (folder / "kept").write_bytes(b"old")
    (folder / "out" / "a.png").symlink_to(folder / "kept")
    (folder / "x.smalti").write_bytes(named("a.png"))
    return folder / "x.smalti"


# Repair


@attack(repair, "", "")
def repair_of_overlapping_blocks():
    """Blocks that claim the same images, and names that come twice."""
    torn = archive_of(GRAY, 3, RAW + bytes(60), blocks=1)
    torn.blocks.append(block_of(GRAY, 3, RAW + bytes(60), first=1))
    torn.blocks.append(block_of(GRAY._replace(height=4, width=5), 1, RAW + bytes(20), first=9))
    torn.say(fmt.NAMES, 3, b"\0a\0b\0a")
    return torn.whole()[:-30]


@attack(repair, "", "")
def repair_of_sections_that_lie():
    """Names of 2^24 zero bytes, an order that ends too soon, metadata that are none."""
    torn = raw(3).say(fmt.NAMES, 3, bytes(1 << 24)).say(fmt.ORDER, 3, b"\1").say(fmt.METADATA, 0, b"[")
    return torn.whole()[:-30]


@attack(repair, "CorruptError", "nothing can be saved")
def repair_of_marks_alone():
    """A megabyte of marks of blocks that claim to be large."""
    return (fmt.BLOCK_MARK + struct.pack("<I", 1 << 20)) * 100_000


@attack(repair, "", "")
def repair_of_many_kinds():
    """4000 blocks of as many kinds: slow if each is looked for among all."""
    torn = Torn(smalti.load_model().id, [[smalti.load_model().id, None]], [], [], [])
    for i in range(4000):
        kind = fmt.Kind(0, 1, 1, 1 + i)
        torn.blocks.append(block_of(kind, 1, b"\x02\0\0", number=i))
    return torn.whole()[:-30]
