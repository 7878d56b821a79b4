"""Image files that Pillow does not write, and images of random samples, for tests of `exchange/`."""

import struct

import numpy as np
from PIL import Image

rng = np.random.default_rng(3)


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    """An image of random samples; of several colours, the first is transparent if the mode says so."""
    w, h = size
    kind, _, clear = mode.partition(" ")
    if kind == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (h, w), np.uint16))
    bands = Image.new(kind, (1, 1)).getbands()
    samples = [Image.fromarray(rng.integers(0, 256, (h, w), np.uint8)) for _ in bands]
    image = samples[0].convert("1") if kind == "1" else Image.merge(kind, samples) if kind != "P" else samples[0]
    if kind == "P":
        image = Image.merge("RGB", [image, image.rotate(180), image]).quantize(7)
    if clear:
        image.info["transparency"] = {"P": 0, "L": image.getpixel((0, 0)), "RGB": image.getpixel((0, 0))}[kind]
    return image


def tiff(
    samples: np.ndarray,
    photometric: int = 2,
    extra: tuple[int, ...] = (),
    *,
    planes: bool = False,
    kind: int = 1,
    big="",
) -> bytes:
    """A minimal TIFF file of samples `h w c`."""
    order = big or "<"
    h, w, c = samples.shape
    depth = samples.dtype.itemsize * 8
    stored = samples.astype(samples.dtype.newbyteorder(order))
    strips = [stored[..., i].tobytes() for i in range(c)] if planes else [stored.tobytes()]
    data = b"".join(strips)
    starts = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = [
        *((256, "H", [w]), (257, "H", [h]), (258, "H", [depth] * c), (259, "H", [1]), (262, "H", [photometric])),
        *((273, "I", starts), (277, "H", [c]), (278, "H", [h]), (279, "I", [len(strip) for strip in strips])),
        *((284, "H", [1 + planes]), (338, "H", list(extra)), (339, "H", [kind] * c)),
    ]
    tags = [tag for tag in tags if tag[2]]
    at = 8 + len(data)
    after = at + 6 + 12 * len(tags)
    entries, tail = struct.pack(order + "H", len(tags)), b""
    for tag, code, values in tags:
        raw = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(raw) > 4:
            raw, tail = struct.pack(order + "I", after + len(tail)), tail + raw
        entries += struct.pack(order + "HHI", tag, 3 if code == "H" else 4, len(values)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + data + entries + bytes(4) + tail


def icon(images: list[tuple[int, bytes]]) -> bytes:
    """An ICO file of square images, each with its side."""
    head, data, at = struct.pack("<3H", 0, 1, len(images)), b"", 6 + 16 * len(images)
    for side, image in images:
        head += struct.pack("<4B2H2I", side, side, 0, 0, 1, 32, len(image), at + len(data))
        data += image
    return head + data


def icns(kind: bytes, data: bytes) -> bytes:
    return b"icns" + struct.pack(">I", 16 + len(data)) + kind + struct.pack(">I", 8 + len(data)) + data


def cmyk_profile() -> bytes:
    """An ICC profile of which only K matters: L* = 100 (1 - K) (ICC.1:2001-04, 6.5.8)."""

    def text(kind: bytes, data: bytes) -> bytes:
        return kind + bytes(4) + data

    line = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = text(b"mft1", bytes([4, 3, 2, 0]) + matrix + line * 4 + bytes([255, 128, 128, 0, 128, 128]) * 8 + line * 3)
    desc = text(b"desc", struct.pack(">I", 5) + b"gray\0" + bytes(8 + 3 + 67))
    tags = [
        (b"desc", desc),
        (b"cprt", text(b"text", b"none\0")),
        (b"wtpt", text(b"XYZ ", struct.pack(">3i", 63190, 65536, 54061))),
        (b"A2B0", lut),
    ]
    at, entries, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags:
        padded = content + bytes(-len(content) % 4)
        entries += name + struct.pack(">2I", at + len(data), len(content))
        data += padded
    head = struct.pack(">2I", at + len(data), 0) + struct.pack(">I", 0x02400000) + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + data
