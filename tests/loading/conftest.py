"""Two files of images that many tests of `smalti.torch` read, and a record of the blocks that are decoded."""

import pytest
from torch_files import noise, packed

import smalti
from smalti.archive.reader import Contents


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """40 gray images with labels in 10 blocks."""
    x = noise(40, 5, 7)
    return x, packed(tmp_path_factory.mktemp("forty") / "x.smalti", x, labels=[i % 7 for i in range(40)])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """60 images of so many sizes and colours that they share mixed blocks, with texts as labels."""
    x = [noise(1, 3 + i % 5, 4 + i % 3, *[(), (2,), (3,), (4,)][i % 4])[0] for i in range(60)]
    path = packed(tmp_path_factory.mktemp("mixed") / "x.smalti", x, labels=[f"t{i % 3}" for i in range(60)], block=16)
    with smalti.open(path) as archive:
        assert any(kind.mixed for kind in archive.contents.index.kinds)
    return x, path


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """A function that returns the blocks that were decoded so far, in this process and its forks."""
    log, real = tmp_path / "decoded", Contents.decode
    log.touch()

    def decode(self, blocks):
        blocks = list(blocks)
        with log.open("a") as file:
            file.write("".join(f"{block}\n" for block in blocks))
        return real(self, blocks)

    monkeypatch.setattr(Contents, "decode", decode)
    return lambda: sorted(map(int, log.read_text().split()))
