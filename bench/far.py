# SPDX-License-Identifier: MIT
"""Benchmark of reading a file far away by ranges of bytes: requests and bytes, on HTTP and S3 servers on loopback."""

import contextlib
import importlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import smalti
from smalti.archive.reader import Contents
from smalti.container.format import Kind
from smalti.container.records import ArchiveWriter
from smalti.types import Pixels
from smalti.util.storage import Remote

READS = 20
NGINX = (
    "events {{}} pid {folder}/pid; error_log {folder}/log; http {{ access_log off; client_body_temp_path {folder}/b;"
)
NGINX += (
    " proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;"
)
NGINX += " server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"


def run(x: Pixels, images: int) -> None:
    """Print what it takes to open a file of so many images far away, and to read some of them."""
    console = Console(width=200)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.smalti"
        write_many(x, path, images)
        console.print(f"{images:,} images, {path.stat().st_size:,} bytes")
        console.print("| server | opening: requests | bytes | ms | an image, at most: requests | bytes | median ms |")
        console.print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        with ranged_server(Path(folder)) as port:
            _measure(console, "http.server", f"http://127.0.0.1:{port}/x.smalti")
        if shutil.which("nginx"):
            with nginx(Path(folder)) as port:
                _measure(console, "nginx", f"http://127.0.0.1:{port}/x.smalti")
        with contextlib.suppress(ModuleNotFoundError), bucket(path) as files:
            _measure(console, "S3 (moto, s3fs)", files.open("images/x.smalti"))


def write_many(x: Pixels, path: Path, images: int) -> None:
    """Write a file of so many images, each of which is read by itself: one block of `x`, again and again."""
    data = path.with_suffix(".block")
    smalti.pack(x, data, packing="each")
    contents, rng = Contents(data), np.random.default_rng(0)
    blocks = range(len(contents.index.blocks))
    with path.open("wb") as file:
        writer = ArchiveWriter.start(file)
        for entry in contents.index.models:
            writer.model(entry.id)
        left = images
        while left > 0:
            head, payload = contents.reader.block(int(rng.choice(blocks)))
            kind = Kind(*head.kind)
            writer.block(kind, head.images, head.pixels, payload)
            writer.order([writer.kind(kind)] * head.images)
            left -= head.images
        writer.finish()
    contents.storage.close()
    data.unlink()


class Counted:
    """A file system of fsspec whose requests and bytes are counted."""

    def __init__(self, files: Any) -> None:
        self._files, self.requests, self.bytes = files, 0, 0

    def size(self, path: str) -> int:
        self.requests += 1
        return int(self._files.size(path))

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        """Return some bytes of a file."""
        self.requests += 1
        self.bytes += end - start
        data: bytes = self._files.cat_file(path, start=start, end=end)
        return data


def _measure(console: Console, name: str, place: Any) -> None:
    remote = Remote(place) if isinstance(place, str) else Remote(place.path, place.fs)
    counted = Counted(remote._files)
    start = time.perf_counter()
    with smalti.open(Remote(remote._path, counted)) as archive:
        opening = counted.requests, counted.bytes, 1000 * (time.perf_counter() - start)
        rng, reads = np.random.default_rng(1), list[tuple[int, int, float]]()
        for i in rng.integers(0, len(archive), READS).tolist():
            counted.requests = counted.bytes = 0
            start = time.perf_counter()
            _ = archive[i]
            reads.append((counted.requests, counted.bytes, 1000 * (time.perf_counter() - start)))
    requests, size, _ = (max(column) for column in zip(*reads, strict=True))
    middle = float(np.median([read[2] for read in reads]))
    console.print(
        f"| {name} | {opening[0]} | {opening[1]:,} | {opening[2]:.0f} | {requests} | {size:,} | {middle:.1f} |"
    )


class _Ranges(SimpleHTTPRequestHandler):
    """A handler that answers to requests for a range of bytes."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path))
        size = data.stat().st_size
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last or size - 1) + 1
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        with data.open("rb") as file:
            file.seek(start)
            self.wfile.write(file.read(end - start))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def ranged_server(folder: Path) -> Iterator[int]:
    """Serve the files of a folder by ranges of bytes; yield the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *some: _Ranges(*some, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def nginx(folder: Path, port: int = 18080) -> Iterator[int]:
    """Serve the files of a folder by nginx; yield the port."""
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;", "-e", str(folder / "log")]
    process = subprocess.Popen(command)
    time.sleep(1)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def bucket(path: Path) -> Iterator[Any]:
    """Put a file into a bucket of moto's S3 server; yield the file system."""
    s3fs = importlib.import_module("s3fs")
    moto = importlib.import_module("moto.server")

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it names each request
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        files = s3fs.S3FileSystem(client_kwargs={"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"})
        files.call_s3("create_bucket", Bucket="images")
        files.put(str(path), "images/x.smalti")
        yield files
    finally:
        server.stop()
