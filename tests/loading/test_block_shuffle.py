"""A shuffle by blocks gives every image once, and decodes each block in one worker."""

import pytest

from smalti.errors import UsageError

torch = pytest.importorskip("torch", reason='smalti.torch needs torch: pip install "smalti[train]"')
from smalti.torch import BlockShuffle, Dataset


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 64])
def test_a_shuffle_by_blocks_gives_every_image_once(forty, workers, drop_last, batch_size):
    dataset = Dataset(forty[1])
    sampler = BlockShuffle(dataset, batch_size, workers=workers, blocks=2, drop_last=drop_last)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    rows = sorted(row for batch in batches for row in batch)
    assert len(rows) == len(set(rows)) == (40 // batch_size * batch_size if drop_last else 40)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert batches != list(sampler) or not batches


def test_a_shuffle_by_blocks_decodes_each_block_in_one_worker(forty):
    batches = list(BlockShuffle(Dataset(forty[1]), 4, workers=2, blocks=2))
    blocks = [{row // 4 for batch in batches[i::2] for row in batch} for i in range(2)]
    assert not blocks[0] & blocks[1]
    assert any(len({row // 4 for row in batch}) > 1 for batch in batches)  # images of several blocks are mixed


def test_a_shuffle_by_blocks_follows_its_generator(forty):
    dataset = Dataset(forty[1])
    shuffles = [list(BlockShuffle(dataset, 8, generator=torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert shuffles[0] == shuffles[1] != shuffles[2]
    for wrong in ({"batch_size": 0}, {"batch_size": 1, "blocks": 0}, {"batch_size": 1, "workers": -1}):
        with pytest.raises(UsageError, match="at least 1, 1 and 0"):
            BlockShuffle(dataset, **wrong)


def test_a_shuffle_by_blocks_keeps_few_blocks_in_memory(mixed, decoded):
    _, path = mixed
    dataset = Dataset(path, memory_bytes=3000)
    batches = BlockShuffle(dataset, 5, blocks=1)
    images = [dataset.__getitems__(batch) for batch in batches]
    assert sum(map(len, images)) == 60
    assert len(decoded()) <= 2 * len(dataset.archive.contents.index.blocks)
