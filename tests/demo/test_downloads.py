import functools
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

pytest.importorskip("pooch", reason='downloads need pooch: pip install "smalti[data]"')

from smalti.demo.downloads import fetch
from smalti.errors import DownloadError

FILES = {"a.gz": b"first file", "b.gz": b"second file"}


@pytest.fixture
def server(tmp_path):
    """An HTTP server on loopback that serves FILES; yields its address and the list of paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/", asked
        serving.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist"


def digests() -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_files_are_downloaded_once_and_checked(server, cache):
    address, asked = server
    for _ in range(2):
        paths = fetch("mnist", [address], digests(), progress=False)
        assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert asked == ["/a.gz", "/b.gz"]


def test_the_next_mirror_is_tried(server, cache):
    address, _ = server
    paths = fetch("mnist", [address + "nothing/", address], digests(), progress=False)
    assert [path.name for path in paths] == list(FILES)


def test_a_file_of_another_checksum_is_refused_and_not_kept(server, cache):
    address, _ = server
    with pytest.raises(DownloadError, match=r"cannot download a\.gz .*ValueError"):
        fetch("mnist", [address], {"a.gz": hashlib.sha256(b"other").hexdigest()}, progress=False)
    assert not list(cache.glob("*"))


def test_no_network_is_one_error(cache):
    with pytest.raises(DownloadError, match="check the network"):
        fetch("mnist", ["http://127.0.0.1:9/"], digests(), progress=False)
