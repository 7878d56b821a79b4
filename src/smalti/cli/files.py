# SPDX-License-Identifier: MIT
"""smalti pack, unpack, info."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TextIO

import typer

from smalti.cli.console import images, progress, size

if TYPE_CHECKING:
    from smalti.types import OnBad, Source
    from smalti.util.storage import Storage

STANDARD = "-"
"""In the place of a file: standard input or output."""
Place = Annotated[str, typer.Argument(metavar="FILE", help="A smalti file: a path, a URL, or - for standard input.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there already.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="Name of a model, or the path of a bundle.", show_default=False)
]
Quality = Annotated[int, typer.Option("--quality", "-q", help="1 (fewest bytes) to 100 (best).")]
AskedQuality = Annotated[
    int | None, typer.Option("--quality", "-q", help="1 (fewest bytes) to 100 (best).", show_default="50")
]
MinPsnr = Annotated[
    float | None, typer.Option(metavar="DB", help="Instead: a PSNR for every single image.", show_default=False)
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Instead: keep every pixel.")]
MaxError = Annotated[
    int | None,
    typer.Option(metavar="N", help="Instead: no pixel (0 to 255) is off by more than N.", show_default=False),
]
Effort = Annotated[
    int,
    typer.Option(
        "--effort", "-e", help="Of searching latents: 1 to 3 (none) up to 9 (fewest bytes); high qualities need none."
    ),
]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="SRC", help="Folders, images, idx, npz, npy, tar, zip or parquet files; FILE.npz#KEY."),
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labels of the images: an idx or npy file.", show_default=False)
]
NoNames = Annotated[bool, typer.Option("--no-names", help="Leave out the names of the images.")]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="Leave out their labels.")]
Metadata = Annotated[Path | None, typer.Option(metavar="FILE", help="JSON to keep with the file.", show_default=False)]
Embed = Annotated[bool, typer.Option("--embed", help="Keep what decodes of the model in the file.")]
OnError = Annotated[
    Literal["stop", "skip"], typer.Option("--on-error", help="What to do with an image that cannot be read.")
]
BlockImages = Annotated[
    int, typer.Option(metavar="N", help="Images a block, at most: fewer are read sooner, and take more bytes.")
]


def pack(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The smalti file to write; - for standard output.")
    ],
    model: ModelOption = None,
    quality: AskedQuality = None,
    psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Instead: a PSNR for all images together.", show_default=False)
    ] = None,
    min_psnr: MinPsnr = None,
    bytes_an_image: Annotated[
        float | None,
        typer.Option("--bytes", metavar="N", help="Instead: at most N bytes an image, on average.", show_default=False),
    ] = None,
    lossless: Lossless = False,
    max_error: MaxError = None,
    effort: Effort = 5,
    labels: Labels = None,
    no_names: NoNames = False,
    no_labels: NoLabels = False,
    metadata: Metadata = None,
    embed: Embed = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Let go of the order of the images, to save what it takes.")
    ] = False,
    block_images: BlockImages = 256,
    on_error: OnError = "stop",
    force: Force = False,
) -> None:
    """Pack images into one smalti file. Sizes and colours may differ from image to image.

    Examples:
    smalti pack scans/ -o scans.smalti

    smalti pack t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz -o test.smalti --psnr 24 --effort 8

    smalti pack scans/ -o scans.smalti --min-psnr 30

    smalti pack scans.tar -o scans.smalti --lossless --on-error skip

    smalti pack data.npz#train_images -o train.smalti --model my.model --embed
    """
    from smalti.api import pack as pack_images
    from smalti.archive.writer import Packing
    from smalti.model.bundle import DEFAULT_MODEL, load_model
    from smalti.rate.target import Target, effort_of
    from smalti.util.atomic import refuse_existing

    piped = str(output) == STANDARD
    if not piped:
        refuse_existing(output, force=force)
    max_error = lossless_error(lossless=lossless, max_error=max_error)
    target = Target(quality, psnr, min_psnr, bytes_an_image, max_error)  # refused before anything is read
    effort_of(effort)
    packing = Packing(block_images, embed=embed, unordered=unordered, metadata=read_metadata(metadata))
    loaded, skipped = load_model(model or DEFAULT_MODEL), Skipped()
    source = read_sources(sources, labels, skipped.on_bad(on_error), no_names=no_names, no_labels=no_labels)
    with progress("packing") as advance:
        packed = pack_images(
            source,
            standard(sys.stdout, "output") if piped else output,
            model=loaded,
            target=target,
            effort=effort,
            packing=packing,
            force=force,
            progress=advance,
        )
    told = f"{output}: {images(packed.images)}, {size(packed.bytes)}, {packed.rate:.2f} bytes an image"
    typer.echo(told, err=piped)
    skipped.report()


def unpack(
    file: Place,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="TARGET",
            help="A folder (PNG files), or FILE.npz, .npy, .tar, .tar.gz, .zip, .parquet, FILE-idx3-ubyte[.gz].",
        ),
    ],
    model: ModelOption = None,
    force: Force = False,
) -> None:
    """Decode all images of a smalti file.

    Examples:
    smalti unpack scans.smalti -o scans/

    smalti unpack test.smalti -o test.npz

    smalti unpack https://example.org/test.smalti -o test.tar
    """
    from smalti.api import unpack as unpack_images

    with progress("unpacking") as advance:
        done = unpack_images(place_of(file), output, model=model, force=force, progress=advance)
    typer.echo(f"{output}: {images(done.images)}")
    if done.left_out:
        typer.echo(f"smalti: {done.left_out}", err=True)


def info(
    file: Place,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a smalti file holds, without decoding it.

    Examples:
    smalti info scans.smalti

    smalti info scans.smalti --json
    """
    import json

    from smalti.archive.info import describe_file

    facts = describe_file(place_of(file))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        shown = {"None": "none", "True": "yes", "False": "no"}.get(str(value), str(value))
        if isinstance(value, list):
            shown = "; ".join(value)
        typer.echo(f"{key.replace('_', ' '):{width}}  {shown}")


def place_of(file: str) -> "str | Storage":
    """Where a smalti file is that was named on the command line."""
    from smalti.util.storage import spool

    return spool(standard(sys.stdin, "input")) if file == STANDARD else file


def standard(stream: TextIO | None, what: str) -> BinaryIO:
    """The bytes of standard input or output."""
    from smalti.errors import UsageError

    if stream is None:
        raise UsageError(f"standard {what} is closed; name a file")
    return stream.buffer


def lossless_error(*, lossless: bool, max_error: int | None) -> int | None:
    """The largest error that is asked."""
    from smalti.errors import UsageError

    if lossless and max_error is not None:
        raise UsageError("--lossless is --max-error 0; give one of them")
    return 0 if lossless else max_error


def read_metadata(path: Path | None) -> dict[str, Any] | None:
    """What a JSON file says."""
    import json

    from smalti.errors import SourceError

    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise SourceError(f"cannot read {path} as JSON: {exc}; check it") from exc
    if not isinstance(found, dict):
        raise SourceError(f"{path} holds no JSON object; write one, in braces")
    return found


def read_sources(
    sources: list[str], labels: Path | None, on_bad: "OnBad", *, no_names: bool, no_labels: bool
) -> "Source":
    """The images that are named on the command line."""
    from smalti.exchange.sources import open_source

    source = open_source(*sources, labels=labels, on_bad=on_bad, labelled=not no_labels)
    return source.nameless() if no_names else source


class Skipped:
    """Images that could not be read."""

    def __init__(self) -> None:
        self._said = list[str]()

    def on_bad(self, on_error: Literal["stop", "skip"]) -> "OnBad":
        """What is to be told of them."""
        from smalti.types import raise_it

        return raise_it if on_error == "stop" else lambda error: self._said.append(str(error))

    def report(self) -> None:
        """List them, and end with exit code 1 if there are any."""
        for line in self._said:
            typer.echo(f"smalti: skipped: {line}", err=True)
        if self._said:
            typer.echo(f"smalti: {images(len(self._said))} skipped", err=True)
            raise typer.Exit(1)
