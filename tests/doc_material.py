# SPDX-License-Identifier: MIT
"""What the pages of the documentation work on: small folders and files of the names that they use."""

import csv
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import smalti
from smalti.demo.samples import draw_digits

SIZES = (16, 24, 32)


def icon(number: int, size: int) -> Image.Image:
    """Return an icon in RGBA: a disc or a square in a flat colour on a clear ground."""
    image = Image.new("RGBA", (size, size))
    draw, colour = ImageDraw.Draw(image), ((37 * number) % 256, (91 * number) % 256, 160, 255)
    box = (2 + number % 3, 2, size - 3, size - 3)
    (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour)
    return image


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    """Return a smooth picture in RGB."""
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    planes = [np.sin(x * (3 + number % 5) + k) + np.cos(y * (2 + number % 4) + k * number) for k in range(3)]
    return Image.fromarray(((np.stack(planes, -1) + 2) * 63).astype(np.uint8))


def make(folder: Path) -> dict[str, object]:
    """Fill a folder, and return the names that Python blocks may use without defining them."""
    digits = draw_digits(20)
    for i, digit in enumerate(digits):
        path = folder / "scans" / ("letters" if i < 9 else "forms") / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit).save(path)
    names = sorted(str(path.relative_to(folder / "scans").as_posix()) for path in (folder / "scans").rglob("*.png"))
    rows = [json.dumps({"file_name": name, "label": int(name[-8:-4]) % 10}) for name in names]
    (folder / "scans" / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name, some in (("more", digits[:3]), ("one", digits[3:6]), ("two", digits[6:9])):
        (folder / name).mkdir()
        for i, digit in enumerate(some):
            Image.fromarray(digit).save(folder / name / f"{name}-{i}.png")
            (folder / name / "metadata.jsonl").open("a", encoding="utf-8").write(
                json.dumps({"file_name": f"{name}-{i}.png", "label": i}) + "\n"
            )
    for i in range(24):
        path = folder / "icons" / ("apps", "actions")[i % 2] / f"{i:02}-{SIZES[i % 3]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        icon(i, SIZES[i % 3]).save(path)
    for i in range(6):
        path = folder / "photographs" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        photograph(i, ((120, 90), (90, 120))[i % 2]).save(path, quality=92)
    for i in range(12):
        path = folder / "train" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(i, (9, 9)).save(path)
    (folder / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, *digits.shape) + digits.tobytes())
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 20) + bytes(i % 10 for i in range(20)))
    np.savez(folder / "digits.npz", images=digits, labels=np.arange(20) % 10)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "label"), *((f"{i}.jpg", i) for i in range(6))])
    smalti.pack(folder / "one", folder / "one.smalti")
    smalti.pack(folder / "two", folder / "two.smalti")
    smalti.pack(folder / "scans", folder / "scans.smalti", packing="each")
    (folder / "damaged.smalti").write_bytes((folder / "one.smalti").read_bytes())
    return {
        "smalti": smalti,
        "images": digits,
        "image": digits[0],
        "names": tuple(f"{i}.png" for i in range(20)),
        "labels": tuple(range(20)),
        "more": digits[:2],
        "better": digits[1],
    }
