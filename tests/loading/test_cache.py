"""The cache folder of a data set: it is filled once, outlives what is killed, and is believed only if it is whole."""

import errno
import os
import threading

import pytest
from torch_files import noise, packed, rng, same

import smalti
from smalti.archive.reader import Contents
from smalti.archive.reading.decoded_file import DecodedFile
from smalti.errors import CorruptError, OutputError, UsageError

pytest.importorskip("torch", reason='smalti.torch needs torch: pip install "smalti[train]"')
from smalti.torch import Dataset


def test_the_second_program_decodes_nothing(tmp_path, forty, decoded):
    x, path = forty
    for _ in range(2):
        dataset = Dataset(path, cache_dir=tmp_path / "new" / "cache")
        assert same([image for image, _ in dataset.__getitems__(range(40))], x)
        assert decoded() == list(range(10))
    assert len(list((tmp_path / "new" / "cache").iterdir())) == 1


def test_what_one_program_began_another_goes_on_with(tmp_path, forty, decoded):
    x, path = forty
    Dataset(path, cache_dir=tmp_path / "c")[5]
    assert decoded() == [1]
    dataset = Dataset(path, cache_dir=tmp_path / "c")
    assert same([image for image, _ in dataset.__getitems__(range(40))], x)
    assert decoded() == list(range(10))


def test_a_changed_file_gets_another_cache_and_the_old_one_goes(tmp_path):
    path, cache = tmp_path / "x.smalti", tmp_path / "cache"
    Dataset(packed(tmp_path / "other.smalti", noise(5, 6, 6)), cache_dir=cache)
    before = packed(path, x := noise(5, 6, 6)).stat()
    old = Dataset(path, cache_dir=cache)
    assert same(old.__getitems__(range(5)), x)
    y = noise(5, 6, 6)
    assert packed(path, y).stat().st_size == before.st_size  # noise is kept as it is
    assert same(Dataset(path, cache_dir=cache).__getitems__(range(5)), y)
    assert len(list(cache.iterdir())) == 2
    if os.name != "nt":
        assert same(old.__getitems__(range(5)), x)


@pytest.mark.parametrize("kind", ["forty", "forty_each", "mixed", "mixed_each"])
def test_every_damage_to_a_cache_is_noticed(tmp_path, request, kind, decoded):
    x, path = request.getfixturevalue(kind)
    Dataset(path, cache_dir=tmp_path / "c").__getitems__(range(len(x)))
    (file,) = (tmp_path / "c").iterdir()
    whole = file.read_bytes()
    filled = [at for at in range(len(whole)) if whole[at]]
    for at in rng.choice(filled, 40).tolist():
        data = bytearray(whole)
        data[at] ^= 1
        file.write_bytes(data)
        items = Dataset(path, cache_dir=tmp_path / "c").__getitems__(range(len(x)))
        assert same([image for image, _ in items], x)
    before = len(decoded())
    for cut in (b"", whole[:50], whole[:-1], whole + b"\0"):
        file.unlink()
        file.write_bytes(cut)
        items = Dataset(path, cache_dir=tmp_path / "c").__getitems__(range(len(x)))
        assert same([image for image, _ in items], x)
    assert len(decoded()) > before


def test_single_images_are_kept_one_by_one(tmp_path, forty_each, decoded, decoded_alone):
    x, path = forty_each
    for _ in range(2):
        dataset = Dataset(path, cache_dir=tmp_path / "c")
        assert same([image for image, _ in dataset.__getitems__([3, 39, 17, 3, 2])], x[[3, 39, 17, 3, 2]])
        assert decoded_alone() == [(0, 2), (0, 3), (2, 1), (4, 7)]
    assert same([image for image, _ in dataset.__getitems__(range(4, 9))], x[4:9])  # half of block 0 is one decoding
    assert (decoded(), decoded_alone()[-1], len(decoded_alone())) == ([0], (4, 7), 5)
    assert same([image for image, _ in Dataset(path, cache_dir=tmp_path / "c").__getitems__(range(40))], x)
    assert decoded() == [0, 1, 2, 3, 4]


def test_single_images_of_mixed_blocks_are_kept_one_by_one(tmp_path, mixed_each, decoded, decoded_alone):
    x, path = mixed_each
    for _ in range(2):
        dataset = Dataset(path, cache_dir=tmp_path / "c")
        images, _ = zip(*dataset.__getitems__([59, 0, 31]), strict=True)
        assert same(images, [x[59], x[0], x[31]])
    assert len(decoded_alone()) == 3
    assert not decoded()


def test_a_single_image_that_is_damaged_costs_only_itself(tmp_path, forty_each):
    x, path = forty_each
    data = bytearray(path.read_bytes())
    with smalti.open(bytes(data)) as archive:
        entry = archive.contents.index.blocks[0]
    data[entry.offset + entry.size - 1] ^= 1  # in image 7, the last one of its block
    (tmp_path / "x.smalti").write_bytes(data)
    dataset = Dataset(tmp_path / "x.smalti", cache_dir=tmp_path / "c")
    for _ in range(2):
        with pytest.raises(CorruptError, match="image 7 of block 0"):
            dataset[7]
        assert same([dataset[6][0], dataset[8][0]], x[[6, 8]])


def test_a_cache_folder_that_cannot_be_written_is_our_error(tmp_path, forty):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(OutputError, match="cannot write"):
            Dataset(forty[1], cache_dir=folder)
    with pytest.raises(UsageError, match="path"):
        Dataset(forty[1], cache_dir=5)


def test_a_full_disk_is_our_error_or_makes_it_slower(tmp_path, forty, monkeypatch):
    x, path = forty

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DecodedFile, "_write", full)
    with pytest.raises(OutputError, match="free some space"):
        Dataset(path, cache_dir=tmp_path)[0]
    dataset = Dataset(path)
    assert same([image for image, _ in dataset.__getitems__(range(40))], x)


def test_a_damaged_block_is_the_error_of_the_file(tmp_path, forty):
    data = bytearray(forty[1].read_bytes())
    with smalti.open(bytes(data)) as archive:
        entry = archive.contents.index.blocks[2]
    data[entry.offset + entry.size - 1] ^= 1
    (tmp_path / "x.smalti").write_bytes(data)
    dataset = Dataset(tmp_path / "x.smalti", cache_dir=tmp_path / "c")
    for _ in range(2):
        with pytest.raises(CorruptError):
            dataset[9]
        assert (dataset[0][0].numpy()[0] == forty[0][0]).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_worker_that_is_killed_leaves_its_block_to_the_others(tmp_path, forty):
    x, path = forty
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            dataset = Dataset(path, cache_dir=tmp_path)
            Contents.decode = lambda *_: os.write(writer, b".") and threading.Event().wait()
            dataset[0]
        finally:
            os._exit(1)
    found = []
    try:
        os.read(reader, 1)  # the child has locked block 0
        dataset = Dataset(path, cache_dir=tmp_path)
        thread = threading.Thread(target=lambda: found.append(dataset[0][0]))
        thread.start()
        thread.join(0.2)
        waited = not found
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    thread.join(30)
    assert waited
    assert same(found, x[:1])
