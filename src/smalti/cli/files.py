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


def pack(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC", help="Folders, images, idx files (gzipped or not) or npz files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The smalti file to write.")],
    model: ModelOption = None,
    quality: Quality = 50,
    force: Force = False,
) -> None:
    """Pack images into one smalti file.

    Examples:
    smalti pack scans/ -o scans.smalti

    smalti pack t10k-images-idx3-ubyte.gz -o test.smalti --quality 70

    smalti pack data.npz#train_images -o train.smalti --model my.model
    """
    from smalti.api import pack as pack_images
    from smalti.atomic import refuse_existing
    from smalti.bundle import DEFAULT_MODEL, load_model
    from smalti.images import read_images

    refuse_existing(output, force=force)
    loaded = load_model(model or DEFAULT_MODEL)
    loaded.point(quality)
    images = read_images(*sources)
    n = len(images.pixels)
    with progress("packing", n) as advance:
        packed = pack_images(images, output, model=loaded, quality=quality, force=force, progress=advance)
    raw = images.pixels.nbytes
    typer.echo(
        f"{output}: {n} images, {size(packed.bytes)}, {packed.rate:.2f} bytes an image"
        f" (raw pixels {raw / n:.0f}, {raw / packed.bytes:.1f} times as much)"
    )


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The smalti file to read.")],
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
    from smalti.archive import BlockReader
    from smalti.images import ImageSet
    from smalti.sequence import Archive
    from smalti.targets import check_target, write_images

    with Archive(BlockReader(file), model) as archive:
        check_target(output, gray=archive.image_shape[2] == 1, force=force)
        with progress("unpacking", len(archive)) as advance:
            images = ImageSet(archive.decode_all(advance), archive.names)
    write_images(images, output, force=force)
    typer.echo(f"{output}: {len(images.pixels)} images")


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The smalti file to look at.")],
    model: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a smalti file holds, without decoding it.

    Examples:
    smalti info scans.smalti

    smalti info scans.smalti --json
    """
    import json

    from smalti.api import open_archive

    with open_archive(file, model=model) as archive:
        facts = archive.info()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        shown = (
            f"{value:.3f}"
            if isinstance(value, float)
            else {True: "yes", False: "no"}.get(value, value)
            if (isinstance(value, bool))
            else value
        )
        typer.echo(f"{key.replace('_', ' '):{width}}  {shown}")
