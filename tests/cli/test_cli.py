import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, fails, run, run_process, write_idx
from PIL import Image

import smalti
from smalti.core.library import describe_engine
from smalti.demo.samples import draw_digits
from smalti.exchange.formats.image_files import png_bytes
from smalti.exchange.sources import read_images
from smalti.rate.metrics import mse, psnr
from smalti.util.binary import hash64

COMMANDS = (
    *("pack", "unpack", "info", "append", "remove", "replace", "compact", "merge", "select", "verify", "repair"),
    *("figure", "demo", "models", "train", "data", "model info"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command):
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"smalti {command}" in done.stdout


def test_help_and_version_and_no_command():
    shown = run("--help").stdout
    assert all(command.split()[0] in shown for command in COMMANDS)
    assert run_process("--version").stdout == f"smalti {smalti.__version__} (engine: {describe_engine()})\n"
    done = run_process()
    assert (done.returncode, "Commands" in done.stdout + done.stderr) == (2, True)


def test_a_folder_goes_in_and_comes_out(tmp_path, digits):
    for i, image in enumerate(digits[:6]):
        (tmp_path / "in" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "sub" / f"{i}.png").write_bytes(png_bytes(image))
    done = run("pack", tmp_path / "in", "-o", tmp_path / "x.smalti", "--quality", "80")
    assert done.returncode == 0, done.stderr
    assert "6 images" in done.stdout
    facts = json.loads(run("info", tmp_path / "x.smalti", "--json").stdout)
    assert facts["images"] == 6
    assert facts["named"] is True
    assert facts["models"] == [f"mnist ({smalti.load_model().id.hex()})"]
    assert facts["bytes"] == (tmp_path / "x.smalti").stat().st_size
    assert "6" in run("info", tmp_path / "x.smalti").stdout
    for target in ("out", "out.npz", "out-idx3-ubyte.gz"):
        done = run("unpack", tmp_path / "x.smalti", "-o", tmp_path / target)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "sub").iterdir())) == 6
    assert (read_images(tmp_path / "out").pixels == read_images(tmp_path / "out-idx3-ubyte.gz").pixels).all()
    assert np.load(tmp_path / "out.npz")["names"].tolist() == [f"sub/{i}.png" for i in range(6)]


def test_several_sources_go_into_one_file(tmp_path, digits):
    a, b = write_idx(tmp_path / "a-idx3-ubyte", digits[:3]), write_idx(tmp_path / "b-idx3-ubyte", digits[3:5])
    assert run("pack", a, b, "-o", tmp_path / "x.smalti").returncode == 0
    assert len(smalti.load(tmp_path / "x.smalti").pixels) == 5


def test_the_figure_is_a_picture(tmp_path, digits):
    source = write_idx(tmp_path / "x-idx3-ubyte", digits)
    done = run("figure", source, "-o", tmp_path / "x.png", "--images", "5")
    assert "5 images" in done.stdout
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width > 800
        left = np.asarray(picture.convert("L"))
    assert left.min() == 0
    fails(2, "figure", source, "-o", tmp_path / "x.png", words="--force")


def test_the_demo_runs_in_an_empty_folder(tmp_path):
    done = run_process("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for codec in ("PNG", "JPEG", "WebP", "smalti"):
        assert codec in done.stdout
    rates = {line.split("│")[1].strip(): float(line.split("│")[3]) for line in done.stdout.splitlines() if "│" in line}
    assert rates["smalti, one file of all"] < min(r for name, r in rates.items() if not name.startswith("smalti")) / 2
    assert len(smalti.load(tmp_path / "smalti-demo" / "digits.smalti").pixels) == 100
    with Image.open(tmp_path / "smalti-demo" / "digits.png") as picture:
        assert picture.height > 400
    assert run("demo", cwd=tmp_path).returncode == 0  # again, over what is there


def test_a_psnr_or_a_size_can_be_asked_for(tmp_path, digits):
    source, target = write_idx(tmp_path / "x-idx3-ubyte", digits), tmp_path / "x.smalti"
    assert run("pack", source, "-o", target, "--min-psnr", "24", "--effort", "2").returncode == 0
    for x, x_hat in zip(digits, smalti.load(target).pixels, strict=True):
        assert psnr(mse(x[None], x_hat[None])) >= 24
    assert run("pack", source, "-o", target, "-f", "--bytes", "40", "--effort", "1").returncode == 0
    assert target.stat().st_size <= 40 * 20
    high = ["--psnr", "99", "--model", "mnist-autoencoder", "--effort", "1"]
    fails(2, "pack", source, "-o", target, "-f", *high, words="reaches")
    fails(2, "pack", source, "-o", target, "-f", "--psnr", "30", "--quality", "30", words="exclude each other")
    fails(2, "pack", source, "-o", target, "-f", "--effort", "10", words="effort is 10")


def test_bad_input_gets_one_line_and_the_right_code(tmp_path, digits):
    good = write_idx(tmp_path / "x-idx3-ubyte", digits[:4])
    target = tmp_path / "x.smalti"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "rgb.png").write_bytes(png_bytes(np.zeros((28, 28, 3), np.uint8)))
    fails(1, "pack", tmp_path / "missing", "-o", target, words="No such file")
    fails(1, "pack", tmp_path / "empty", "-o", target, words="holds no images")
    fails(1, "pack", tmp_path / "text", "-o", target, words="no image")
    fails(2, "pack", good, "-o", tmp_path / "b.png", words="called like an image")
    fails(2, "pack", "", "-o", target, words="empty path")
    fails(2, "figure", tmp_path / "rgb.png", "-o", tmp_path / "f.png", "--model", "mnist", words="28x28 RGB")
    fails(1, "pack", good, "-o", tmp_path / "no" / "folder.smalti", words="make its folder first")
    fails(2, "pack", good, "-o", target, "--model", "nonsense", words="no model named 'nonsense'")
    fails(2, "pack", good, "-o", target, "--quality", "0", words="from 1")
    fails(2, "train", good, "-o", tmp_path / "x", words=".model")
    fails(1, "unpack", good, "-o", tmp_path / "out", words="not a smalti file")
    fails(1, "info", tmp_path / "missing", words="No such file")
    assert not target.exists()
    assert not (tmp_path / "out").exists()


def test_pack_and_append_say_what_they_passed_over(tmp_path, digits):
    for name in ("s/a.png", "more/b.png"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(png_bytes(digits[0]))
        (path.parent / "notes.txt").write_text("hello")
        (path.parent / ".hidden").write_text("")
    target = tmp_path / "x.smalti"
    said = "passed over: 1 hidden file (.hidden), 1 file that is no image (notes.txt)\n"
    for command in (("pack", tmp_path / "s", "-o", target), ("append", target, tmp_path / "more")):
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
        assert done.stdout.count("\n") == 5
    done = run("pack", write_idx(tmp_path / "x-idx3-ubyte", digits[:2]), "-o", tmp_path / "y.smalti")
    assert (done.stdout.count("\n"), "passed over" in done.stdout, done.stderr) == (4, False, "")


def test_notes_on_sources_are_a_few_lines(tmp_path, digits):
    tar = tmp_path / "0.tar"
    run("pack", write_idx(tmp_path / "x-idx3-ubyte", digits[:1]), "-o", tmp_path / "x.smalti")
    run("unpack", tmp_path / "x.smalti", "-o", tar)
    data = tar.read_bytes().rstrip(b"\0")
    for i in range(5):
        (tmp_path / f"{i}.tar").write_bytes(data + bytes(-len(data) % 512))
    done = run("pack", *(tmp_path / f"{i}.tar" for i in range(5)), "-o", tmp_path / "y.smalti", "--no-names")
    assert done.returncode == 0
    assert done.stderr.count("lacks the blocks that end a tar file") == 3
    assert "smalti: 2 more of these\n" in done.stderr


def test_damaged_files_and_existing_targets_are_left_as_they_are(tmp_path, packed):
    data, whole = bytearray(packed.read_bytes()), tmp_path / "whole.smalti"
    whole.write_bytes(data)
    packed.write_bytes(data[:-5])
    fails(1, "unpack", packed, "-o", tmp_path / "out", words=f"{packed.name}: the file's end is missing")
    fails(1, "merge", whole, packed, "-o", tmp_path / "m.smalti", words=f"{packed.name}: the file's end is missing")
    data[30] ^= 4
    packed.write_bytes(data)
    fails(1, "unpack", packed, "-o", tmp_path / "out", words="checksum of a block")
    assert not (tmp_path / "out").exists()
    source = write_idx(tmp_path / "x-idx3-ubyte", np.zeros((2, 28, 28), np.uint8))
    fails(2, "pack", source, "-o", packed, words="--force")
    fails(2, "pack", source, "-o", tmp_path, words="is a folder")
    assert packed.read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal there")
def test_a_command_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    source = write_idx(tmp_path / "x-idx3-ubyte", draw_digits(1000))
    command = [sys.executable, "-m", "smalti", "pack", str(source), "-o", str(tmp_path / "x.smalti"), "--lossless"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while len(list(tmp_path.iterdir())) == 1 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert [path.name for path in tmp_path.iterdir()] == ["x-idx3-ubyte"]


def test_a_smalti_file_is_no_source_of_images(tmp_path, packed):
    fails(1, "pack", packed, "-o", tmp_path / "y.smalti", words="smalti merge")


def test_a_pipe_can_be_looked_at_and_verified(packed):
    for command, words in (("info", b"28x28 gray"), ("verify", b"is whole")):
        done = subprocess.run(
            [sys.executable, "-m", "smalti", command, "-"], input=packed.read_bytes(), capture_output=True
        )
        assert words in done.stdout, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("command", ["unpack - -o x <&-", "pack x-idx3-ubyte -o - >&-"])
def test_standard_streams_may_be_closed(tmp_path, digits, command):
    write_idx(tmp_path / "x-idx3-ubyte", digits[:2])
    shell = f"'{sys.executable}' -m smalti {command}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "is closed; name a file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_only_a_file_of_this_machine_grows(tmp_path, digits):
    source = write_idx(tmp_path / "x-idx3-ubyte", digits[:2])
    fails(2, "append", "memory://x.smalti", source, words="is a URL")


def test_unknown_options_and_commands_are_usage_errors():
    for arguments in (["pack", "--nonsense"], ["nonsense"], ["pack"], ["pack", "x", "-o", "y", "--quality", "high"]):
        fails(2, *arguments, words="--help")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_one_line(packed):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "smalti", "info", str(packed)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "smalti: cannot write the output: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
def test_links_are_written_through_and_special_files_left_alone(tmp_path, digits):
    source = write_idx(tmp_path / "x-idx3-ubyte", digits[:2])
    (tmp_path / "link.smalti").symlink_to(tmp_path / "real.smalti")
    assert run("pack", source, "-o", tmp_path / "link.smalti").returncode == 0
    assert (tmp_path / "link.smalti").is_symlink()
    assert len(smalti.load(tmp_path / "real.smalti").pixels) == 2
    os.mkfifo(tmp_path / "pipe")
    fails(2, "pack", source, "-o", tmp_path / "pipe", "--force", words="no regular file")
    fails(1, "info", tmp_path / ("y" * 300), words="cannot open")


def test_a_file_of_an_unknown_model_can_be_looked_at(packed):
    data = packed.read_bytes().replace(smalti.load_model().id, b"\1" * 8)
    index_size = int.from_bytes(data[-16:-12], "little")
    check = hash64(data[-16 - index_size : -16])
    packed.write_bytes(data[:-12] + check + data[-4:])
    facts = json.loads(run("info", packed, "--json").stdout)
    assert (facts["images"], facts["models"]) == (5, ["unknown here (0101010101010101)"])
    fails(2, "unpack", packed, "-o", packed.with_name("out"), words="0101010101010101")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None
    mounted = mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", folder]).returncode == 0
    if not mounted:
        pytest.skip("mounting a small tmpfs needs Linux and root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_target_as_it_was(tmp_path, small_disk, digits):
    source = write_idx(tmp_path / "x-idx3-ubyte", digits)
    target = small_disk / "x.smalti"
    assert run("pack", source, "-o", target).returncode == 0
    old = target.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    fails(1, "pack", source, "-o", target, "--force", words="No space left")
    fails(1, "unpack", target, "-o", small_disk / "out", words="No space left")
    fails(1, "unpack", target, "-o", small_disk / "out.npz", words="No space left")
    fails(1, "figure", source, "-o", small_disk / "x.png", words="No space left")
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "x.smalti"]
    assert target.read_bytes() == old


def test_labels_that_are_of_no_use_are_left_out_as_the_message_says(tmp_path, digits):
    np.savez(tmp_path / "x.npz", images=digits[:3], labels=np.full(3, 0.5))
    words = ["pack", tmp_path / "x.npz", "-o", tmp_path / "x.smalti", "--quality", "80"]
    fails(1, *words, words="--no-labels")
    assert run(*words, "--no-labels").returncode == 0
    with smalti.open(tmp_path / "x.smalti") as archive:
        assert (len(archive), archive.labels) == (3, None)


def test_downloading_without_a_network_is_one_error(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fails(1, "data", "mnist", words="check the network")


def test_the_examples_run(tmp_path):
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert scripts
    for script in scripts:
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_numbers_that_are_none_and_bytes_on_top_are_said_plainly(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 28, 28), np.uint8))
    names = np.array([np.random.default_rng(i).bytes(200).hex() for i in range(3)])
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 28, 28), np.uint8), names=names)
    words = ("pack", tmp_path / "x.npy", "-o", tmp_path / "x.smalti")
    fails(2, *words, "--quality", "50.5", words="smalti: --quality takes a whole number. See")
    fails(2, *words, "--packing", "foo", words="smalti: --packing takes one of block, each, solid, and not 'foo'. See")
    fails(2, *words, "--psnr", "high", words="smalti: --psnr takes a number. See")
    done = run("pack", tmp_path / "x.npz", "-o", tmp_path / "y.smalti", "--bytes", "100")
    assert done.returncode == 0, done.stderr
    assert "names, labels, profiles, metadata and models come on top of 100 bytes an image" in done.stderr
    fails(2, "pack", tmp_path / "x.npz", "-o", tmp_path / "y.smalti", words="add --force to replace it")


@pytest.mark.parametrize("command", ["merge", "select", "repair"])
def test_a_smalti_file_is_not_called_like_an_image(tmp_path, packed, command):
    fails(2, command, packed, "-o", tmp_path / "x.png", words="x.png")
    assert not (tmp_path / "x.png").exists()


def test_every_command_that_reads_a_smalti_file_reads_standard_input(tmp_path, packed):
    def piped(*words):
        return run(*words, stdin=packed, cwd=tmp_path)

    whole = smalti.load(packed)
    for words in (["info", "-"], ["verify", "-"], ["unpack", "-", "-o", "out.npz"], ["select", "-", "-o", "s.smalti"]):
        done = piped(*words)
        assert done.returncode == 0, done.stderr
    for words in (["merge", "-", "-o", "m.smalti"], ["repair", "-", "-o", "r.smalti"]):
        done = piped(*words)
        assert done.returncode == 0, done.stderr
    assert piped("verify", "-").stdout == "standard input is whole\n"
    for name in "smr":
        found = smalti.load(tmp_path / f"{name}.smalti")
        assert (found.pixels == whole.pixels).all()
        assert found.names == whole.names
    assert "only once" in piped("merge", "-", "-", "-o", "x.smalti").stderr
    assert not (tmp_path / "x.smalti").exists()


@pytest.mark.parametrize("command", ["merge", "select", "repair"])
def test_only_pack_writes_to_standard_output(tmp_path, packed, command):
    done = run(command, packed, "-o", "-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "only smalti pack writes to standard output" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]
