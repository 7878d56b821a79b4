# SPDX-License-Identifier: MIT
"""smalti pack, unpack, info."""

from pathlib import Path
from typing import Annotated

import typer

from smalti.cli.console import progress, size

Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there already.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="Name of a model, or the path of a bundle.", show_default=False)
]
Quality = Annotated[int, typer.Option("--quality", "-q", help="1 (fewest bytes) to 100 (best).")]
Effort = Annotated[
    int,
    typer.Option(
        "--effort", "-e", help="Of searching latents: 1 to 3 (none) up to 9 (fewest bytes); high qualities need none."
    ),
]


def pack(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC", help="Folders, images, idx files (gzipped or not) or npz files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The smalti file to write.")],
    model: ModelOption = None,
    quality: Annotated[
        int | None, typer.Option("--quality", "-q", help="1 (fewest bytes) to 100 (best).", show_default="50")
    ] = None,
    psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Instead: a PSNR for all images together.", show_default=False)
    ] = None,
    min_psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Instead: a PSNR for every single image.", show_default=False)
    ] = None,
    bytes_an_image: Annotated[
        float | None,
        typer.Option("--bytes", metavar="N", help="Instead: at most N bytes an image, on average.", show_default=False),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Instead: keep every pixel. Any size, gray or RGB.")
    ] = False,
    max_error: Annotated[
        int | None,
        typer.Option(metavar="N", help="Instead: no pixel (0 to 255) is off by more than N.", show_default=False),
    ] = None,
    effort: Effort = 5,
    force: Force = False,
) -> None:
    """Pack images into one smalti file.

    Examples:
    smalti pack scans/ -o scans.smalti

    smalti pack t10k-images-idx3-ubyte.gz -o test.smalti --psnr 24 --effort 8

    smalti pack scans/ -o scans.smalti --min-psnr 30

    smalti pack scans/ -o scans.smalti --lossless

    smalti pack data.npz#train_images -o train.smalti --model my.model
    """
    from smalti.api import pack as pack_images
    from smalti.atomic import refuse_existing
    from smalti.bundle import DEFAULT_MODEL, load_model
    from smalti.control import Aim
    from smalti.errors import UsageError
    from smalti.images import read_images

    refuse_existing(output, force=force)
    if lossless and max_error is not None:
        raise UsageError("--lossless is --max-error 0; give one of them")
    if lossless:
        max_error = 0
    Aim(quality, psnr, min_psnr, bytes_an_image, max_error, effort)  # a wrong one is refused before anything is read
    loaded = load_model(model or DEFAULT_MODEL)
    images = read_images(*sources)
    with progress("packing") as advance:
        packed = pack_images(
            images,
            output,
            model=loaded,
            quality=quality,
            psnr=psnr,
            min_psnr=min_psnr,
            bytes_an_image=bytes_an_image,
            max_error=max_error,
            effort=effort,
            force=force,
            progress=advance,
        )
    raw = images.pixels.nbytes
    typer.echo(
        f"{output}: {packed.images} images, {size(packed.bytes)}, {packed.rate:.2f} bytes an image"
        f" (raw pixels {raw / packed.images:.0f}, {raw / packed.bytes:.1f} times as much)"
    )


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The smalti file to read.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="TARGET", help="A folder (PNG files), FILE.npz or FILE-idx3-ubyte[.gz]."
        ),
    ],
    model: ModelOption = None,
    force: Force = False,
) -> None:
    """Decode all images of a smalti file.

    Examples:
    smalti unpack scans.smalti -o scans/

    smalti unpack test.smalti -o test.npz

    smalti unpack test.smalti -o test-images-idx3-ubyte.gz
    """
    from smalti.api import unpack as unpack_images

    with progress("unpacking") as advance:
        images = unpack_images(file, output, model=model, force=force, progress=advance)
    typer.echo(f"{output}: {len(images.pixels)} images")


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The smalti file to look at.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a smalti file holds, without decoding it.

    Examples:
    smalti info scans.smalti

    smalti info scans.smalti --json
    """
    import contextlib
    import json

    from smalti.archive import BlockReader
    from smalti.sequence import describe_file

    with contextlib.closing(BlockReader(file)) as blocks:
        facts = describe_file(blocks)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        shown = {"None": "unknown", "True": "yes", "False": "no"}.get(str(value), str(value))
        typer.echo(f"{key.replace('_', ' '):{width}}  {shown}")
