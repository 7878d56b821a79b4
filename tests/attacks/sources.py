# SPDX-License-Identifier: MIT
"""Images of other kinds of files that lie."""

import gzip
import io
import struct
import tarfile
import zlib

import numpy as np
from attacks import build
from attacks.attack import attack, convert, source

# Sources


def png_of(width: int, height: int) -> bytes:
    """A PNG file of black pixels, made without them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zipped(members: dict[str, bytes]) -> bytes:
    return build.zip_bytes(members)


@attack(source, "SourceError", "more than fits|does not hold", "x-idx3-ubyte")
def idx_of_2_32_images():
    """An idx file of 2^32 - 1 images, in 16 bytes."""
    return b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28)


@attack(source, "SourceError", "more than fits", "x-idx3-ubyte.gz")
def idx_of_one_image_of_900_mb():
    """A gzipped idx file of one image of 30000x30000."""
    many, rest = divmod(900_000_000, 1 << 24)
    start = b"\0\0\x08\x03" + struct.pack(">3I", 1, 30000, 30000) + bytes(rest)
    return gzip.compress(start, 1) + many * gzip.compress(bytes(1 << 24), 1)  # several members are one file


@attack(source, "SourceError", "more than fits|does not hold", "x.npz")
def npz_of_10_18():
    """An npz file whose array claims 10^9 x 10^9 pixels."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1, 10**9, 10**9)})
    return zipped({"images.npy": file.getvalue()})


@attack(source, "SourceError", "Python objects", "x.npy")
def npy_of_objects():
    """An npy file of pickled objects."""
    file = io.BytesIO()
    np.save(file, np.array([{1: 2}], object), allow_pickle=True)
    return file.getvalue()


@attack(source, "SourceError", "", "x.npy")
def npy_of_a_deep_header():
    """An npy file whose header is nested 4000 levels deep."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': " + b"(" * 4000 + b")" * 4000 + b"}\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


@attack(source, "SourceError", "more than a file can hold", "x.png")
def png_of_12000_squared():
    """A PNG file of 144 million pixels, 140 kB."""
    return png_of(12000, 12000)


@attack(source, "SourceError", "no small image", "x.zip")
def zip_of_1_gib():
    """A zip file whose image inflates to 500 MB."""
    return zipped({"x.bmp": bytes(500_000_000)})


@attack(source, "SourceError", "no safe name", "x.zip")
def zip_that_climbs():
    """A zip file with `../climbed.png`."""
    return zipped({"../climbed.png": png_of(2, 2)})


@attack(source, "SourceError", "nested too deep|damaged", "x.zip")
def zip_of_deep_labels():
    """Labels in a zip file nested 10^5 levels deep."""
    return zipped({"x.png": png_of(2, 2), "metadata.jsonl": b'{"file_name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"})


@attack(source, "", "", "x.zip")
def zip_of_labels_of_nothing():
    """A zip file with 200000 lines that label one image, and others that are not there."""
    lines = b"file_name,label\n" + b"x.png,7\n" * 100_000 + b"".join(b"y%d.png,7\n" % i for i in range(100_000))
    return zipped({"x.png": png_of(2, 2), "metadata.csv": lines})


def tarred(**fields) -> bytes:
    """A tar file of one member with those fields."""
    file, data = io.BytesIO(), fields.pop("data", png_of(2, 2))
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out:
        member = tarfile.TarInfo(fields.pop("name", "x.png"))
        member.size = len(data)
        for name, value in fields.items():
            setattr(member, name, value)
        out.addfile(member, io.BytesIO(data))
    return file.getvalue()


@attack(source, "SourceError", "no safe name", "x.tar")
def tar_that_climbs():
    """A tar file with `../climbed.png`."""
    return tarred(name="../climbed.png")


@attack(source, "SourceError", "holds no images", "x.tar")
def tar_of_a_link():
    """A tar file whose image is a link to /etc/passwd."""
    return tarred(type=tarfile.SYMTYPE, linkname="/etc/passwd", data=b"")


@attack(source, "SourceError", "holds no images", "x.tar")
def tar_of_a_device():
    """A tar file whose image is a device."""
    return tarred(type=tarfile.CHRTYPE, data=b"")


def _tar_head(size_field: bytes, name: bytes = b"x.png", kind: bytes = b"0") -> bytes:
    head = bytearray(tarred()[:512])
    head[0:100] = name.ljust(100, b"\0")
    head[124:136] = size_field.ljust(12, b"\0")
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@attack(source, "SourceError", "", "x.tar")
def tar_of_a_negative_size():
    """A tar file whose member has a negative size: the next one lies before it, for ever."""
    return _tar_head(b"\xff" * 10 + b"\xfe\x00", name=b"x.txt") * 2 + bytes(1024)


@attack(source, "SourceError", "", "x.tar")
def tar_of_2_60_bytes():
    """A tar file whose image claims 2^60 bytes."""
    return _tar_head(b"\x80" + bytes(3) + struct.pack(">Q", 1 << 60)) + bytes(1024)


@attack(source, "SourceError", "", "x.tar")
def tar_of_long_names_in_a_row():
    """A tar file of 5000 headers that each only say how long the next one's name is."""
    return (_tar_head(b"00000000001", kind=b"L") + b"x".ljust(512, b"\0")) * 5000 + bytes(1024)


@attack(source, "SourceError", "", "x.parquet")
def parquet_that_lies():
    """A parquet file whose footer claims 2 GiB."""
    return b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1"


@attack(source, "SourceError", "", "x.parquet")
def parquet_of_garbage():
    """A parquet file whose footer is garbage."""
    return b"PAR1" + bytes(range(256)) + struct.pack("<I", 200) + b"PAR1"


@attack(source, "SourceError", "", "x.png")
def postscript_called_png():
    """A PostScript program in the place of an image: nobody runs it."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/climbed) (w) file closefile\n"


@attack(source, "SourceError", "frames of an animation|damaged|too large", "x.gif")
def gif_of_many_frames():
    """A GIF file of 300 frames."""
    from PIL import Image

    file = io.BytesIO()
    frames = [Image.fromarray(np.full((4, 4), i % 256, np.uint8)) for i in range(300)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


@attack(convert, "SourceError", "in all sizes of an icon", "x.ico")
def icon_of_one_image_65535_times():
    """An icon whose 65535 sizes are one image of 256x256."""
    image = png_of(256, 256)
    at = 6 + 16 * 65535
    return struct.pack("<3H", 0, 1, 65535) + struct.pack("<4B2H2I", 0, 0, 0, 0, 1, 32, len(image), at) * 65535 + image


@attack(convert, "SourceError", "in all frames of an animation", "x.png")
def animation_of_frames_of_8_mib():
    """An animation of 9 frames of 4096x2048, all of them black, in 80 kB."""
    from PIL import Image

    file = io.BytesIO()
    frames = [Image.new("RGBA", (4096, 2048), (0, 0, 0, i)) for i in range(2)]
    frames[0].save(file, "PNG", save_all=True, append_images=[frames[i % 2] for i in range(1, 9)])
    return file.getvalue()


@attack(convert, "", "", "x.gif")
def animation_of_frames_of_1_mib():
    """An animation of 32 frames of 1024x1024, the most pixels that are taken, of which one is not gray."""
    from PIL import Image

    file = io.BytesIO()
    frames = [Image.new("RGB", (1024, 1024), (i, i, i)) for i in range(32)]
    frames[7].putpixel((3, 3), (255, 0, 0))
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


@attack(convert, "", "", "x.tif")
def pages_in_a_circle():
    """A TIFF file whose second page says that the first one follows."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))])
    data = bytearray(file.getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    (entries,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + 12 * entries, first)
    return bytes(data)


@attack(convert, "", "", "x.jpg")
def profile_of_garbage():
    """A CMYK image whose ICC profile is 8 MB of garbage behind a right header."""
    from PIL import Image

    from odd_images import cmyk_profile

    file, profile = io.BytesIO(), cmyk_profile()
    garbage = np.random.default_rng(0).bytes(8_000_000)
    Image.new("CMYK", (9, 9)).save(file, "JPEG", icc_profile=profile[:500] + garbage)
    return file.getvalue()


@attack(source, "SourceError", "holds no images|damaged", "x.tar.xz")
def tar_of_a_gigabyte_of_zeros():
    """A tar file, compressed with xz, of 1 GB of zeros after its end."""
    import lzma

    zeros = lzma.compress(bytes(1 << 26), preset=0)  # several streams are one file
    return lzma.compress(tarred(name="x.txt"), preset=0) + 16 * zeros


@attack(source, "SourceError", "many hard links|holds no images", "x.tar.gz")
def tar_of_links_back_and_forth():
    """A gzipped tar file of 2000 hard links to two files of 12 MB that lie far apart, in turns."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out:
        for i in range(2002):
            member = tarfile.TarInfo(f"{i}.png")
            data = png_of(2, 2) + bytes(12_000_000) if i < 2 else b""
            member.size = len(data)
            if i > 1:
                member.type, member.linkname = tarfile.LNKTYPE, f"{i % 2}.png"
            out.addfile(member, io.BytesIO(data))
    return gzip.compress(file.getvalue(), 1)
