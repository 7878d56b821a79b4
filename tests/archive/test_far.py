"""A file far away is read by few requests for few bytes, counted by a web server in the test."""

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import smalti
from smalti.archive.reader import Contents
from smalti.container.format import Kind
from smalti.container.records import ArchiveWriter

pytest.importorskip("aiohttp", reason='URLs need aiohttp: pip install "smalti[remote]"')

rng = np.random.default_rng(12)
BLOCKS = 400
PROGRAM = """
import sys, urllib.request
import smalti

place, *numbers = sys.argv[1:]
archive = smalti.open(f"{place}/x.smalti")
for number in numbers:
    urllib.request.urlopen(f"{place}/mark")
    print(archive[int(number)].tobytes().hex())
"""


class Ranges(SimpleHTTPRequestHandler):
    """Gives parts of files, and remembers what was asked for; a file named "mark" begins a new count."""

    counts: "list[list[int]]"  # for each mark, the bytes that each request was given

    def do_HEAD(self):
        self.counts[-1].append(0)
        super().do_HEAD()

    def do_GET(self):
        if self.path == "/mark":
            self.counts.append([])
            self.send_response(204)
            self.end_headers()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self.counts[-1].append(len(part))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


def many(path, images, packing):
    """Write images, again and again, and return how many they are."""
    smalti.pack(images, path, lossless=True, packing=packing)
    contents = Contents(path)
    head, payload = contents.reader.block(0)
    model = contents.index.models[0].id
    contents.storage.close()
    with path.open("wb") as file:
        writer = ArchiveWriter.start(file, model)
        for _ in range(BLOCKS):
            writer.block(Kind(*head.kind), head.images, head.pixels, payload)
        writer.finish()
    return BLOCKS * len(images)


def counted(folder, numbers):
    """Return what a program reads behind the URL, and the bytes that each of its requests was given."""
    handler = type("Counting", (Ranges,), {"counts": [[]]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        words = [f"http://127.0.0.1:{server.server_port}", *map(str, numbers)]
        done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert done.returncode == 0, done.stderr
    return [bytes.fromhex(line) for line in done.stdout.split()], handler.counts


@pytest.mark.parametrize("packing", ["each", "block"])
def test_an_image_far_away_takes_few_requests_and_few_bytes(tmp_path, packing):
    images = rng.integers(0, 256, (256, 9, 20), dtype=np.uint8)
    n = many(tmp_path / "x.smalti", images, packing)
    numbers = [n // 3, n // 3 + 1, n - 1, 0]
    found, (opening, *reads) = counted(tmp_path, numbers)
    assert found == [images[i % 256].tobytes() for i in numbers]
    assert len(opening) <= 4
    assert sum(opening) < 70_000
    block = images.nbytes + 2000
    assert (tmp_path / "x.smalti").stat().st_size > (BLOCKS - 1) * images.nbytes
    for requests in reads:
        assert len(requests) <= 3
        assert sum(requests) < (4000 if packing == "each" else block)
    if packing == "each":
        assert [len(requests) for requests in reads] == [2, 1, 2, 1]  # a table is kept, and image 0 comes with it
    else:
        assert len(reads[1]) == 0  # the block is kept
