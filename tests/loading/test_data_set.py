"""The images of a smalti file for PyTorch's DataLoader."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, in_threads
from PIL import Image
from torch_files import noise, packed, rng, same

import smalti
from smalti.errors import UsageError

torch = pytest.importorskip("torch", reason='smalti.torch needs torch: pip install "smalti[train]"')
from torch.utils.data import DataLoader

from smalti.torch import Dataset

CONTEXTS = ["fork", "spawn"] if sys.platform == "linux" else ["spawn"]
COLOURS = {"gray": (5, 7), "gray-alpha": (6, 4, 2), "rgb": (5, 7, 3), "rgba": (4, 4, 4)}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("cached", [False, True])
def test_an_item_is_the_image_as_a_tensor(tmp_path, colour, cached):
    x = noise(9, *COLOURS[colour])
    dataset = Dataset(packed(tmp_path / "x.smalti", x), cache_dir=tmp_path / "cache" if cached else None)
    assert len(dataset) == 9
    assert dataset[3].dtype == torch.uint8
    assert same([dataset[i] for i in range(9)], x)
    assert same(dataset.__getitems__([8, 0, -2, 8]), x[[8, 0, -2, 8]])
    assert dataset.classes is dataset.targets is None
    with pytest.raises(IndexError):
        dataset[9]


@pytest.mark.parametrize("kind", ["mixed", "mixed_each"])
@pytest.mark.parametrize("memory_bytes", [0, 1 << 28])
@pytest.mark.parametrize("cached", [False, True])
def test_images_of_several_sizes_come_one_by_one(tmp_path, request, kind, memory_bytes, cached):
    x, path = request.getfixturevalue(kind)
    dataset = Dataset(path, cache_dir=tmp_path if cached else None, memory_bytes=memory_bytes)
    order = rng.permutation(60).tolist()
    for _ in range(2):
        images, targets = zip(*dataset.__getitems__(order), strict=True)
        assert same(images, [x[i] for i in order])
        assert [int(target) for target in targets] == [i % 3 for i in order]
    assert dataset.classes == ("t0", "t1", "t2")


def test_a_file_of_one_image_is_a_data_set(tmp_path, digits):
    dataset = Dataset(smalti.encode(digits[0], lossless=True), cache_dir=tmp_path)
    assert len(dataset) == 1
    assert same([dataset[0], dataset[-1]], digits[[0, 0]])


TARGETS = {
    "numbers": ([5, 0, -3, 1 << 40], [5, 0, -3, 1 << 40], None),
    "texts": (["b", "a", "ö", "a"], [1, 0, 2, 0], ("a", "b", "ö")),
    "lists": ([(1, 2), (3, 4), (0, 0), (9, 9)], [[1, 2], [3, 4], [0, 0], [9, 9]], None),
    "lists of several lengths": ([(1,), (), (3, 4), (5,)], [[1], [], [3, 4], [5]], None),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_labels_become_tensors(tmp_path, kind):
    labels, wanted, classes = TARGETS[kind]
    dataset = Dataset(packed(tmp_path / "x.smalti", noise(4, 5, 5), labels=labels))
    for i in range(4):
        _, target = dataset[i]
        assert target.dtype == torch.int64
        assert target.tolist() == wanted[i]
    assert dataset.classes == classes
    assert dataset.class_to_idx == {name: i for i, name in enumerate(classes or ())}


def test_names_of_classes_come_from_the_metadata(tmp_path):
    path = packed(tmp_path / "x.smalti", noise(3, 5, 5), labels=[1, 0, 1], label_names=["cat", "dog"])
    assert Dataset(path).classes == ("cat", "dog")


def test_folders_are_classes_as_for_an_image_folder(tmp_path):
    path = packed(tmp_path / "x.smalti", noise(3, 5, 5), names=["dog/b/1.png", "cat/1.png", "dog/2.png"])
    dataset = Dataset(path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.targets == [1, 0, 1]
    flat = packed(tmp_path / "y.smalti", noise(2, 5, 5), names=["dog/1.png", "2.png"])
    assert Dataset(flat).targets is None


@pytest.mark.parametrize("colour", COLOURS)
def test_images_come_in_the_form_that_is_asked_for(tmp_path, colour):
    x = noise(3, *COLOURS[colour])
    path = packed(tmp_path / "x.smalti", x, labels=[0, 1, 2])
    seen = []
    dataset = Dataset(path, seen.append, form="array")
    assert dataset[1] == (None, 1)
    assert type(seen[0]) is np.ndarray
    assert (seen[0] == x[1]).all()
    dataset = Dataset(path, np.asarray, lambda target: target * 10, form="pil")
    image, target = dataset[2]
    assert (image == x[2]).all()
    assert target == 20
    assert type(target) is int
    dataset.transform = None
    assert isinstance(dataset[0][0], Image.Image)
    with pytest.raises(UsageError, match="'tensor', 'array' or 'pil', not 'numpy'"):
        Dataset(path, form="numpy")


@pytest.mark.parametrize(
    ("where", "context"),
    [*((where, CONTEXTS[0]) for where in ("shared", "cache", "alone")), *(("cache", other) for other in CONTEXTS[1:])],
)
def test_workers_give_every_image_once_an_epoch(tmp_path, forty, context, where):
    x, path = forty
    dataset = Dataset(path, cache_dir=tmp_path if where == "cache" else None, memory_bytes=(where != "alone") << 20)
    loader = DataLoader(dataset, 7, shuffle=True, num_workers=2, multiprocessing_context=context)
    for _ in range(2 if context == "fork" else 1):
        batches = list(loader)
        images, targets = (torch.cat(some) for some in zip(*batches, strict=True))
        assert images.shape == (40, 1, 5, 7)
        rows = [int(np.flatnonzero((x == image.numpy()[0]).all((1, 2)))[0]) for image in images]
        assert sorted(rows) == list(range(40))
        assert targets.tolist() == [row % 7 for row in rows]


@pytest.mark.parametrize("context", CONTEXTS)
def test_workers_read_single_images_and_keep_them_for_each_other(forty_each, context, decoded, decoded_alone):
    x, path = forty_each
    dataset = Dataset(path, np.asarray, form="array")
    loader = DataLoader(dataset, 3, shuffle=True, num_workers=2, multiprocessing_context=context)
    for _ in range(2 if context == "fork" else 1):
        images = torch.cat([images for images, _ in loader]).numpy()
        assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in x)
    if context == "fork":  # a spawned process counts nothing here
        assert decoded_alone() == [(block, place) for block in range(5) for place in range(8)]
        assert not decoded()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("cached", [False, True])
def test_workers_decode_each_block_once_between_them(tmp_path, forty, decoded, cached):
    _, path = forty
    dataset = Dataset(path, cache_dir=tmp_path / "cache" if cached else None)
    loader = DataLoader(dataset, 5, shuffle=True, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        assert len(list(loader)) == 8
    assert decoded() == list(range(10))


def test_a_pickle_names_the_file_and_does_not_hold_it(tmp_path, forty, monkeypatch):
    x, path = forty
    large = packed(tmp_path / "large.smalti", noise(300, 5, 7), labels=list(range(300)))
    monkeypatch.chdir(path.parent)
    dataset = Dataset(Path(path.name), torch.Tensor.float)
    data = pickle.dumps(dataset)
    assert abs(len(data) - len(pickle.dumps(Dataset(large, torch.Tensor.float)))) < 200
    monkeypatch.chdir("/")
    del dataset
    again = pickle.loads(data)
    image, target = again[11]
    assert image.dtype == torch.float32
    assert (image.numpy()[0] == x[11]).all()
    assert target == 4


def test_threads_share_a_data_set(tmp_path, forty):
    x, path = forty
    dataset, wrong = Dataset(path, cache_dir=tmp_path), []

    def read(seed):
        order = np.random.default_rng(seed).permutation(40)
        wrong.extend(i for i in order if not (dataset[i][0].numpy()[0] == x[i]).all())

    in_threads(read, range(4))
    assert not wrong


def temporary(dataset):
    return dataset._shared


def test_temporary_files_go_with_the_data_set_and_not_with_a_worker(forty):
    dataset = Dataset(forty[1])
    path = temporary(dataset)
    assert path.exists()
    if "fork" in CONTEXTS:
        list(DataLoader(dataset, 20, num_workers=2, multiprocessing_context="fork"))
    copy = pickle.loads(pickle.dumps(dataset))
    assert temporary(copy) == path
    del copy
    assert path.exists()
    assert os.name == "nt" or not path.parent.stat().st_mode & 0o077  # nobody else sees the images
    del dataset
    assert not path.parent.exists()


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "golden").glob("*.smalti")), ids=lambda path: path.stem)
def test_files_of_every_kind_are_data_sets(path, tmp_path):
    with smalti.open(path) as archive:
        images, labels = list(archive), archive.labels
    for dataset in (Dataset(path, cache_dir=tmp_path), Dataset(path, memory_bytes=0)):
        items = dataset.__getitems__(range(len(images)))
        assert same(items if labels is None else [image for image, _ in items], images)


def test_the_page_runs(tmp_path):
    for i, image in enumerate(noise(12, 9, 9)):
        folder = tmp_path / "train" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "torch.md").read_text(encoding="utf-8"), re.DOTALL)
    (shell,) = [code.split() for kind, code in blocks if kind == "sh"]
    assert shell[0] == "smalti"
    subprocess.run([sys.executable, "-m", *shell], cwd=tmp_path, check=True, capture_output=True)
    parts = [code for kind, code in blocks if kind == "python"]
    assert len(parts) == 3
    program = 'import warnings\nwarnings.simplefilter("error")\n'
    program += 'warnings.filterwarnings("ignore", "This DataLoader will create")\n'  # where there is one processor
    program += "\n".join(parts)
    program += "\nassert dataset.classes == ('cat', 'dog') and len(dataset) == 12\n"
    (tmp_path / "page.py").write_text(program)
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_torch_the_error_says_what_to_install():
    program = "import sys; sys.modules['torch'] = None; import smalti.torch"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: smalti.torch needs an optional part" in done.stderr
    assert 'pip install "smalti[train]"' in done.stderr


def test_the_module_is_there_without_importing_it_by_name():
    program = "import sys, smalti; assert 'torch' not in sys.modules; print(smalti.torch.Dataset.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Dataset\n"
