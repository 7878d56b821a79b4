"""A smalti file as a sequence, from wherever it lies."""

import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers import in_threads

import smalti
from smalti.archive import reader
from smalti.archive.archive import Archive
from smalti.archive.reader import Contents
from smalti.errors import CorruptError, SourceError, UsageError
from smalti.util.storage import Memory, spool

rng = np.random.default_rng(3)
MIXED = [
    rng.integers(0, 256, shape, dtype=np.uint8) // 9 for shape in [(7, 9), (5, 6, 3), (7, 9), (4, 4, 4), (7, 9)] * 5
]
NAMES = tuple(f"a/{i}.png" for i in range(25))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """25 images of three kinds, with names and labels, lossless."""
    path = tmp_path_factory.mktemp("mixed") / "x.smalti"
    parts = [smalti.ImageSet(x[None], (name,), (i % 3,)) for i, (x, name) in enumerate(zip(MIXED, NAMES, strict=True))]
    source = smalti.Source(parts, 25, named=True, labelled=True)
    smalti.pack(source, path, max_error=0, packing=smalti.Packing(4, metadata={"from": "noise", "größe": [1, None]}))
    return path


def same(x, y):
    return len(x) == len(y) and all(a.shape == b.shape and (a == b).all() for a, b in zip(x, y, strict=True))


def test_images_of_several_sizes_and_colours_keep_their_order(mixed):
    with smalti.open(mixed) as archive:
        assert len(archive) == 25
        assert same(list(archive), MIXED)
        assert same([archive[i] for i in range(25)], MIXED)
        assert same(archive[3:20:4], MIXED[3:20:4])
        assert same(archive[[24, 0, -2, 0]], [MIXED[24], MIXED[0], MIXED[23], MIXED[0]])
        assert same(archive[[x.ndim == 2 for x in MIXED]], [x for x in MIXED if x.ndim == 2])
        assert archive.shapes == {(7, 9, 1), (5, 6, 3), (4, 4, 4)}
        with pytest.raises(UsageError, match="3 shapes"):
            archive.image_shape  # noqa: B018 - asking is the test
        assert "7x9 gray" in repr(archive)


def test_what_was_said_of_images_comes_back(mixed):
    with smalti.open(mixed) as archive:
        assert archive.names == NAMES
        assert archive.labels == tuple(i % 3 for i in range(25))
        assert archive.metadata == {"from": "noise", "größe": [1, None]}
        assert archive.find("a/17.png") == 17
        with pytest.raises(UsageError, match="no image named 'b'"):
            archive.find("b")


def test_images_of_one_shape_come_in_one_array(tmp_path, digits):
    smalti.pack(digits, tmp_path / "x.smalti", max_error=0, packing=smalti.Packing(6))
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert (archive[:] == digits).all()
        assert (archive[np.array([19, 3, 3])] == digits[[19, 3, 3]]).all()
        assert (archive[digits.mean((1, 2)) > 20] == digits[digits.mean((1, 2)) > 20]).all()
        assert archive[[]].shape == (0, 28, 28)
        assert archive.names is archive.labels is None
        for wrong in ([20], [-21], [[1]], np.zeros(3, bool), [0.5]):
            with pytest.raises((IndexError, TypeError)):
                archive[wrong]
        with pytest.raises(TypeError, match="not by 'a'"):
            archive["a"]


def test_an_archive_goes_through_pickle_and_fork(mixed, monkeypatch):
    with smalti.open(str(mixed)) as archive:
        archive[3]
        monkeypatch.chdir("/")
        with pickle.loads(pickle.dumps(archive)) as again:
            assert same([again[3]], [MIXED[3]])
        for method in ("fork", "spawn") if sys.platform == "linux" else ("spawn",):
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert same(pool.map(archive.__getitem__, range(0, 25, 5)), MIXED[::5])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_needs_nothing_that_another_thread_is_busy_with(mixed, monkeypatch):
    real, begun, go = Contents.names, threading.Event(), threading.Event()

    def slow(self):
        begun.set()
        go.wait(60)
        return real(self)

    with smalti.open(mixed) as one, smalti.open(mixed) as other:
        monkeypatch.setattr(Contents, "names", slow)
        thread = threading.Thread(target=lambda: one.names)
        thread.start()
        begun.wait(60)
        monkeypatch.undo()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(Archive.find, (other, other.names[3])).get(30) == 3
        go.set()
        thread.join()
        assert one.names == other.names


def test_it_is_a_sequence(mixed):
    with smalti.open(mixed) as archive:
        assert same(archive[range(2, 9, 3)], MIXED[2:9:3])
        assert same([archive[np.array(3)], archive[np.uint8(4)]], MIXED[3:5])
        assert same(list(reversed(archive)), MIXED[::-1])
        assert isinstance(archive, Sequence)
        assert len(random.Random(0).sample(archive, 2)) == 2


def test_a_file_is_named_by_a_path_or_is_its_bytes(mixed):
    data = mixed.read_bytes()
    for place in (bytearray(data), memoryview(data), io.BytesIO(data)):
        assert len(smalti.open(place)) == 25
        assert smalti.verify(place) == []
    for wrong in ([data], None, 5):
        for work in (smalti.open, smalti.load, smalti.verify, smalti.repair, smalti.unpack):
            with pytest.raises(UsageError, match="path"):
                work(wrong, *([] if work in (smalti.open, smalti.load, smalti.verify) else [mixed.with_name("x")]))
    for work in (smalti.pack, smalti.unpack, smalti.repair):
        with pytest.raises(UsageError, match="path"):
            work(MIXED if work is smalti.pack else mixed, None)


def test_threads_share_an_archive_that_keeps_hardly_anything(mixed):
    wrong = []
    with smalti.open(mixed, cache_bytes=100) as archive:

        def read(seed):
            order = np.random.default_rng(seed).integers(0, 25, 20).tolist()
            wrong.extend(i for i in order if not same([archive[i]], [MIXED[i]]))

        in_threads(read, range(4))
    assert not wrong


def test_a_file_is_read_by_ranges_behind_a_url(mixed):
    pytest.importorskip("fsspec", reason='URLs need fsspec: pip install "smalti[remote]"')
    with smalti.open(f"file://{mixed}") as archive:
        assert same(list(archive), MIXED)
    import fsspec

    with fsspec.open("memory://x.smalti", "wb") as file:
        file.write(mixed.read_bytes())
    with smalti.open("memory://x.smalti") as archive:
        assert same([archive[4]], [MIXED[4]])
        assert same([pickle.loads(pickle.dumps(archive))[4]], [MIXED[4]])
    with pytest.raises(SourceError, match="cannot open"):
        smalti.open("memory://missing.smalti")


class Quiet(SimpleHTTPRequestHandler):
    """Gives whole files."""

    def log_message(self, *_):
        pass


class Endless(Quiet):
    """Does not say how large files are."""

    def send_header(self, name, value):
        if name != "Content-Length":
            super().send_header(name, value)


class Ranges(Quiet):
    """Gives parts of files, and remembers how much."""

    given: ClassVar[list[int]] = []

    def do_GET(self):
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self.given.append(len(part))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.mark.parametrize("handler", [Quiet, Ranges, Endless])
def test_a_web_server_gives_a_file(tmp_path, handler):
    pytest.importorskip("aiohttp", reason='URLs need aiohttp: pip install "smalti[remote]"')
    noise = rng.integers(0, 256, (200, 30, 30), dtype=np.uint8)  # far more than the end of a file, which is read first
    size = smalti.pack(noise, tmp_path / "x.smalti", max_error=0, model="none", packing=smalti.Packing(10)).bytes
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        program = (
            f"import smalti; x = smalti.open('http://127.0.0.1:{server.server_port}/x.smalti'); print(x[37].sum())"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        if handler is Endless:
            assert "does not tell the size" in done.stderr
        else:
            assert done.stdout == f"{noise[37].sum()}\n", done.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    if handler is Ranges:
        assert 0 < sum(Ranges.given) < size * 0.6


def test_a_pipe_gives_and_takes_a_file(mixed, digits):
    assert same(list(smalti.open(mixed.read_bytes())), MIXED)
    storage = spool(io.BytesIO(mixed.read_bytes()))
    assert storage.read(0, 4) == b"\x89SML"
    storage.close()
    out = io.BytesIO()
    out.seekable, out.seek, out.tell = (lambda: False), None, None  # nothing may look back
    packed = smalti.pack(digits, out, quality=20, effort=1)
    assert packed.bytes == len(out.getvalue())
    assert out.getvalue()[4] == 2  # for it is not known yet what the file will use
    assert len(smalti.open(out.getvalue())) == 20


def test_a_file_says_version_2_if_it_must_wherever_it_starts(digits, tmp_path):
    for images, version in ((digits, 1), ([*digits[:3], MIXED[1], MIXED[3]], 2)):
        whole = io.BytesIO()
        smalti.pack(images, whole, max_error=0)
        behind = io.BytesIO(b"before")
        behind.seek(6)
        smalti.pack(images, behind, max_error=0)
        assert behind.getvalue() == b"before" + whole.getvalue()
        assert behind.tell() == len(behind.getvalue())
        assert whole.getvalue()[4] == version
        with (tmp_path / "x.smalti").open("ab") as file:  # what is written there goes to the end, so 2 is said at once
            smalti.pack(images, file, max_error=0)
        data = (tmp_path / "x.smalti").read_bytes()
        assert (data[4], data[:4] + data[5:]) == (2, whole.getvalue()[:4] + whole.getvalue()[5:])
        (tmp_path / "x.smalti").unlink()


def test_a_file_of_one_image_takes_16_bytes_more_than_its_payload_at_most(digits):
    from smalti.archive.reader import Contents

    for image in (digits[0], MIXED[1], MIXED[3]):
        data = smalti.encode(image, max_error=0)
        (block,) = Contents(data).index.blocks
        assert len(data) - block.size <= 16
        assert (smalti.decode(data) == image).all()
    named = io.BytesIO()
    smalti.pack(smalti.ImageSet(digits[:1], ("ü.png",)), named)
    assert smalti.open(named.getvalue()).names == ("ü.png",)


def test_every_flip_of_a_file_of_one_image_is_noticed(digits):
    data = smalti.encode(digits[0], quality=5, effort=1)
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(smalti.SmaltiError):
                smalti.decode(flipped)


def test_a_block_that_decodes_to_other_pixels_is_refused(mixed, monkeypatch):
    real = reader.decode_images
    monkeypatch.setattr(reader, "decode_images", lambda *a: [x ^ 1 for x in real(*a)])
    with smalti.open(mixed) as archive, pytest.raises(CorruptError, match="other pixels than were packed"):
        archive[0]


def test_a_file_may_bring_its_model_along(tmp_path, monkeypatch, toy, digits):
    path = tmp_path / "x.smalti"
    smalti.pack(digits, path, model=toy, quality=40, packing=smalti.Packing(embed=True))
    with smalti.open(path) as archive, smalti.open(path, model=toy) as told:
        assert (archive[:] == told[:]).all()
        assert not archive.contents.model(0).can_encode
        with pytest.raises(UsageError, match="can only decode"):
            smalti.append(path, digits, model=archive.contents.model(0), quality=40)
    smalti.append(path, digits, quality=40, model=toy)
    assert len(smalti.load(path, model=toy)) == 40


def test_a_storage_that_ends_early_is_our_error(mixed):
    class Short(Memory):
        def read(self, at, size):
            return super().read(at, size)[:-1]

    with pytest.raises(smalti.SmaltiError):
        smalti.open(Short(mixed.read_bytes()))
