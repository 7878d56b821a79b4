"""Files made to harm: our error or the right pixels, soon, in little memory. `tests/attacks/README.md` lists them."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attacks.build import goldens
from attacks.cases import ATTACKS, table
from attacks.targets import WORK
from helpers import ROOT, made_once, run

import smalti
from smalti.container.format import HEADER, pack_header
from smalti.demo.samples import draw_digits
from smalti.exchange.formats.image_files import png_bytes

FOLDER = ROOT / "tests" / "attacks"
CORPUS = sorted(path for path in (FOLDER / "corpus").rglob("*") if path.is_file())
MOST_SECONDS, MOST_MIB = 10, 256
"""Of an attack, of processors; on most machines it takes less than one."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What came of each attack: in a fork of a process of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("time and memory are measured in forks")

    def make(folder):
        (folder / "files").mkdir()
        command = [sys.executable, "-W", "ignore", FOLDER / "measure.py", folder / "files"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (folder / "answers.json").write_text(done.stdout)

    return json.loads((made_once(tmp_path_factory, "attacks", make) / "answers.json").read_text())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_its_answer_soon_and_in_little_memory(attack, answers):
    if "parquet" in attack.name:
        pytest.importorskip("pyarrow")
    found = answers[attack.name]
    assert found["error"] == attack.error, found
    assert re.search(attack.words, found["words"]), found
    assert found["seconds"] < MOST_SECONDS
    assert found["mib"] < MOST_MIB


def test_the_readme_lists_every_attack():
    assert table() in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_is_read_or_refused(path):
    WORK[path.parent.name](path.read_bytes())


def same(x, y):
    return len(x) == len(y) and all(a.shape == b.shape and (a == b).all() for a, b in zip(x, y, strict=True))


@pytest.fixture
def grown(tmp_path):
    """An archive before and after something was appended, and its old images."""
    path = tmp_path / "x.smalti"
    path.write_bytes(goldens()["latents"])
    with smalti.open(path) as archive:
        old = list(archive)
    smalti.append(path, np.zeros((2, 3, 3), np.uint8), max_error=0)
    return goldens()["latents"], path.read_bytes(), old


def test_an_append_that_stops_at_any_byte_leaves_what_was_there(grown):
    before, after, old = grown
    head = pack_header(before[13:21], len(before))
    for end in range(len(before), len(after) + 1):
        with smalti.open(head + after[HEADER.size : end]) as archive:
            assert same(archive[:], old)


def test_a_header_that_is_half_written_is_told(grown):
    before, after, old = grown
    middle = pack_header(before[13:21], len(before))
    for early, late in ((before[: HEADER.size], middle), (middle, after[: HEADER.size])):
        for cut in range(HEADER.size + 1):
            try:
                with smalti.open(late[:cut] + early[cut:] + after[HEADER.size :]) as archive:
                    assert same(archive[:2], old)
            except smalti.SmaltiError:
                assert HEADER.size > cut > 5


def test_every_flip_and_prefix_of_a_file_with_its_model_is_noticed():
    data = goldens()["embedded"]
    right = list(smalti.open(data))
    start, tail = data.index(b"\xb1SMO"), data.index(b"\xb1SBK")
    for at in [*range(start + 17), *range(start + 17, tail, 97), *range(tail, len(data))]:
        with contextlib.suppress(smalti.SmaltiError):
            assert same(smalti.open(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])[:], right)
        with pytest.raises(smalti.SmaltiError):
            smalti.open(data[:at])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_of_a_process_that_has_decoded_decodes_too():
    program = (
        "import os, signal, smalti, numpy as np\n"
        "data = smalti.encode(np.eye(28, dtype=np.uint8), quality=10, effort=1)\n"
        "smalti.decode(data)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(60)\n"
        "    smalti.decode(data)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_an_image_among_a_thousand_that_cannot_be_read_stops_or_is_listed(tmp_path):
    source, target = tmp_path / "in", tmp_path / "x.smalti"
    source.mkdir()
    for i, image in enumerate(draw_digits(10).repeat(100, 0)):
        (source / f"{i:04d}.png").write_bytes(png_bytes(image))
    (source / "0777.png").write_bytes(png_bytes(draw_digits(1)[0])[:60])
    stopped = run("pack", source, "-o", target, "--quality", "15", "--effort", "1")
    assert (stopped.returncode, target.exists()) == (1, False)
    assert "0777.png" in stopped.stderr
    skipped = run("pack", source, "-o", target, "--quality", "15", "--effort", "1", "--on-error", "skip")
    assert skipped.returncode == 1
    assert "skipped: " in skipped.stderr
    assert "0777.png" in skipped.stderr
    assert "1 image skipped" in skipped.stderr
    with smalti.open(target) as archive:
        assert len(archive) == 999


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write to")
def test_a_target_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "x.smalti").write_bytes(goldens()["mixed"])
    for arguments in (
        ["merge", tmp_path / "x.smalti"],
        ["select", tmp_path / "x.smalti"],
        ["unpack", tmp_path / "x.smalti"],
    ):
        done = run(*arguments, "-o", "/proc/x.smalti" if arguments[0] != "unpack" else "/proc/x.tar")
        assert done.returncode == 1
        assert done.stderr.startswith("smalti: cannot write /proc/x")
        assert done.stderr.count("\n") == 1
