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
def forty_each(tmp_path_factory):
    """40 gray images with labels in 5 blocks, each of which is read by itself."""
    x = noise(40, 5, 7)
    path = tmp_path_factory.mktemp("forty") / "each.smalti"
    return x, packed(path, x, labels=[i % 7 for i in range(40)], block=8, streams="each")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """60 images of so many sizes and colours that they share mixed blocks, with texts as labels."""
    return of_many_sizes(tmp_path_factory.mktemp("mixed") / "x.smalti", "block")


@pytest.fixture(scope="module")
def mixed_each(tmp_path_factory):
    """The same, each of which is read by itself."""
    return of_many_sizes(tmp_path_factory.mktemp("mixed") / "each.smalti", "each")


def of_many_sizes(path, streams):
    x = [noise(1, 3 + i % 5, 4 + i % 3, *[(), (2,), (3,), (4,)][i % 4])[0] for i in range(60)]
    packed(path, x, labels=[f"t{i % 3}" for i in range(60)], block=16, streams=streams)
    with smalti.open(path) as archive:
        assert any(kind.mixed for kind in archive.contents.index.kinds)
    return x, path


@pytest.fixture
def decoded_alone(monkeypatch, tmp_path):
    """A function that returns the block and the place of each image that was decoded alone, also in forks."""
    log, real = tmp_path / "alone", Contents.decode_single
    log.touch()

    def decode_single(self, places):
        with log.open("a") as file:
            file.write("".join(f"{block} {place}\n" for block, place in places))
        return real(self, places)

    monkeypatch.setattr(Contents, "decode_single", decode_single)
    return lambda: sorted(tuple(map(int, line.split())) for line in log.read_text().splitlines())


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
