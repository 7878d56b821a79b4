# SPDX-License-Identifier: MIT
"""Options and arguments that several commands share, and functions that read their values."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TextIO

import typer

from smalti.cli.console import images, in_options

if TYPE_CHECKING:
    from smalti.types import OnBad, Source
    from smalti.util.storage import Storage

STANDARD = "-"
"""The name that stands for standard input or output in the place of a file."""
Place = Annotated[str, typer.Argument(metavar="FILE", help="A smalti file: a path, a URL, or - for standard input.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an output that exists already.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The name of a model, or the path of a model bundle.", show_default=False),
]
CodingModel = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="The name of a model, or the path of a model bundle; auto takes the best one for each image: of those that"
        " are built in, and those in folders named by SMALTI_MODEL_PATH.",
    ),
]
Quality = Annotated[int, typer.Option("--quality", "-q", help="The quality: 1 (fewest bytes) to 100 (best).")]
AskedQuality = Annotated[
    int | None,
    typer.Option("--quality", "-q", help="The quality: 1 (fewest bytes) to 100 (best).", show_default="50"),
]
MinPsnr = Annotated[
    float | None,
    typer.Option(
        metavar="DB", help="Instead of --quality: give every image at least this PSNR, in dB.", show_default=False
    ),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Instead of --quality: change no pixel.")]
MaxError = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Instead of --quality: change no sample (0 to 255) by more than N (near-lossless).",
        show_default=False,
    ),
]
Effort = Annotated[
    int,
    typer.Option(
        "--effort",
        "-e",
        help="How long to search where images may lose something: 1 (fastest) to 9 (longest), for fewer bytes or less"
        " loss. Lossless images of any kind are packed and unpacked several times as fast with 1, in 5 % more bytes"
        " (photographs) to a quarter more (icons); 2 to 9 are alike for them.",
    ),
]
Metric = Annotated[
    Literal["psnr", "ssim"],
    typer.Option(
        help="What the general model works for where it codes with loss: a small squared error (psnr), or a large"
        " multi-scale SSIM (ssim), which is nearer to what people see. --psnr and --min-psnr mean PSNR in both cases.",
    ),
]
AlphaQuality = Annotated[
    int,
    typer.Option(
        metavar="Q",
        help="The quality of alpha where the general model codes with loss: 100 (exact) down to 1. No alpha is off by"
        " more than (100 - Q) / 4; 0 and 255 stay as they are.",
    ),
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SRC",
        help="Folders, image files, idx, npz, npy, tar, zip or parquet files. FILE.npz#KEY picks one array.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Take the labels of the images from this idx or npy file.", show_default=False),
]
NoNames = Annotated[bool, typer.Option("--no-names", help="Leave out the names of the images.")]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="Leave out the labels of the images.")]
Metadata = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Store the JSON object in this file as metadata.", show_default=False),
]
Embed = Annotated[
    bool, typer.Option("--embed", help="Store the decoder's part of the model in the file, so that it is complete.")
]
OnError = Annotated[
    Literal["stop", "skip"],
    typer.Option("--on-error", help="Whether to stop at an image that cannot be read, or to skip it."),
]
Convert = Annotated[
    bool,
    typer.Option(
        "--convert",
        help="Convert what a file cannot hold to 8-bit sRGB or gray: CMYK, 16 bits, floats, each frame of an animation,"
        " each size of an icon.",
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Make thumbnails: reduce images whose long side has more than N pixels to N, and convert all colours to"
        " sRGB by their ICC profiles. No image is enlarged.",
        show_default=False,
    ),
]
HiddenColours = Annotated[
    Literal["keep", "drop"],
    typer.Option(
        help="Colours of pixels that are wholly transparent, where images are kept exactly: keep them, too, or drop"
        " them, so that these pixels are black, which takes fewer bytes. Lossy coding does not keep them.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
BlockImages = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="The most images of a block. Smaller blocks take more bytes, but single images are read faster.",
    ),
]


PackingKind = Annotated[
    Literal["block", "each", "solid"] | None,
    typer.Option(
        "--packing",
        help="Which images share an entropy-coded stream: those of a block; none (each), so that every image is read"
        " and checked without its neighbours, for about 4 bytes more; or thousands (solid), for the fewest bytes.",
        show_default=False,
    ),
]


def place_of(file: str) -> "str | Storage":
    """Return the place of a smalti file that was named on the command line: its name, or all of standard input."""
    from smalti.util.storage import spool

    return spool(standard(sys.stdin, "input")) if file == STANDARD else file


def target_of(output: Path) -> Path:
    """Return the smalti file to write, as it was named on the command line.

    Raises:
        UsageError: it is standard output, which `pack` alone writes to, or it is called like an image.
    """
    from smalti.errors import UsageError
    from smalti.exchange.recognise import refuse_image_suffix

    if str(output) == STANDARD:
        raise UsageError("only smalti pack writes to standard output; name a file with --output")
    refuse_image_suffix(output)
    return output


def standard(stream: TextIO | None, what: str) -> BinaryIO:
    """Return the binary stream of standard input or output."""
    from smalti.errors import UsageError

    if stream is None:
        raise UsageError(f"standard {what} is closed; name a file")
    return stream.buffer


def lossless_error(*, lossless: bool, max_error: int | None) -> int | None:
    """Return the largest error that --lossless or --max-error allows; None if neither is given."""
    from smalti.errors import UsageError

    if lossless and max_error is not None:
        raise UsageError("--lossless means --max-error 0; give one of the two")
    return 0 if lossless else max_error


def read_metadata(path: Path | None) -> dict[str, Any] | None:
    """Return the JSON object in a file; None without a file."""
    import json

    from smalti.errors import SourceError

    if path is None:
        return None
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise SourceError(f"cannot read {path} as JSON: {exc}; check it") from exc
    if not isinstance(metadata, dict):
        raise SourceError(f"{path} holds no JSON object; write one, in braces")
    return metadata


def read_sources(
    sources: list[str],
    labels: Path | None,
    on_bad: "OnBad",
    *,
    no_names: bool,
    no_labels: bool,
    convert: bool,
    resize: int | None,
) -> "Source":
    """Open the images that are named on the command line."""
    from smalti.exchange.recognise import refuse_same_names
    from smalti.exchange.resize import check_side
    from smalti.exchange.sources import open_source

    side = check_side(resize)
    if not no_names:
        refuse_same_names(sources)
    source = open_source(*sources, labels=labels, on_bad=on_bad, labelled=not no_labels, convert=convert, side=side)
    return source.nameless() if no_names else source


class Skipped:
    """The errors of the images that could not be read and were skipped."""

    def __init__(self) -> None:
        self._errors = list[str]()

    def on_bad(self, on_error: Literal["stop", "skip"]) -> "OnBad":
        """Return what readers call with the error of an image: it raises the error, or notes it."""
        from smalti.types import raise_it

        return raise_it if on_error == "stop" else lambda error: self._errors.append(str(error))

    def report(self) -> None:
        """Print the errors to stderr, and end with exit code 1 if there are any."""
        for line in self._errors:
            typer.echo(f"smalti: skipped: {in_options(line)}", err=True)
        if self._errors:
            typer.echo(f"smalti: {images(len(self._errors))} skipped", err=True)
            raise typer.Exit(1)
