# SPDX-License-Identifier: MIT
"""The commands smalti append, merge, select, verify and repair."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from smalti.cli.console import images, progress, size
from smalti.cli.options import (
    STANDARD,
    AlphaQuality,
    AsJson,
    AskedQuality,
    BlockImages,
    CodingModel,
    Convert,
    Effort,
    Embed,
    Force,
    HiddenColours,
    Labels,
    Lossless,
    MaxError,
    Metadata,
    Metric,
    MinPsnr,
    ModelOption,
    NoLabels,
    NoNames,
    OnError,
    PackingKind,
    Place,
    Resize,
    Skipped,
    Sources,
    lossless_error,
    place_of,
    read_metadata,
    read_sources,
    standard,
    target_of,
)
from smalti.cli.summary import report, report_unsuited

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The smalti file to write.")]


def append(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A smalti file.")],
    sources: Sources,
    model: CodingModel = "auto",
    quality: AskedQuality = None,
    min_psnr: MinPsnr = None,
    lossless: Lossless = False,
    max_error: MaxError = None,
    effort: Effort = 5,
    metric: Metric = "psnr",
    alpha_quality: AlphaQuality = 100,
    labels: Labels = None,
    no_names: NoNames = False,
    no_labels: NoLabels = False,
    metadata: Metadata = None,
    embed: Embed = False,
    block_images: BlockImages = 256,
    packing_kind: PackingKind = None,
    on_error: OnError = "stop",
    convert: Convert = False,
    resize: Resize = None,
    hidden_colours: HiddenColours = "keep",
    as_json: AsJson = False,
) -> None:
    """Add images to a smalti file. The images in it are not written again, and stay readable even if this is stopped.

    If the file holds a fit of the general model (pack --fit), that codes the new images, too.

    Examples:
    smalti append scans.smalti more-scans/

    smalti append scans.smalti more-scans/ --lossless
    """
    from smalti.archive.edit import append as append_images
    from smalti.archive.writer import Packing

    skipped = Skipped()
    packing = Packing(block_images, embed=embed, metadata=read_metadata(metadata), streams=packing_kind)
    source = read_sources(
        sources,
        labels,
        skipped.on_bad(on_error),
        no_names=no_names,
        no_labels=no_labels,
        convert=convert,
        resize=resize,
    )
    with progress("appending") as advance:
        done = append_images(
            file,
            source,
            model=model,
            quality=quality,
            min_psnr=min_psnr,
            max_error=lossless_error(lossless=lossless, max_error=max_error),
            effort=effort,
            metric=metric,
            alpha_quality=alpha_quality,
            packing=packing,
            hidden_colours=hidden_colours,
            progress=advance,
        )
    report(file, done, as_json=as_json)
    exact = min_psnr is None and max_error is None
    report_unsuited(done, model, lossless=lossless or max_error == 0, exact=exact)
    skipped.report()


def merge(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Smalti files: paths or URLs; - is standard input, once.")
    ],
    output: Output,
    model: ModelOption = None,
    no_names: NoNames = False,
    no_labels: NoLabels = False,
    force: Force = False,
) -> None:
    """Join several smalti files into a new one, in order. No pixel changes.

    Examples:
    smalti merge one.smalti two.smalti -o both.smalti
    """
    from smalti.archive.edit import merge as merge_files
    from smalti.errors import UsageError

    target_of(output)
    if files.count(STANDARD) > 1:
        raise UsageError("standard input can be read only once; give - for one of the files")
    with progress("merging") as advance:
        keep = {"names": not no_names, "labels": not no_labels}
        done = merge_files(
            [place_of(file) for file in files], output, model=model, force=force, progress=advance, **keep
        )
    typer.echo(f"{output}: {images(done.images)}, {size(done.bytes)}")


def select(
    file: Place,
    output: Output,
    start: Annotated[
        int,
        typer.Option(metavar="N", help="The number of the first image, from 0; a negative number counts from the end."),
    ] = 0,
    stop: Annotated[
        int | None,
        typer.Option(metavar="N", help="The image to stop before, counted likewise.", show_default="the end"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="Only images whose name matches this pattern, such as 'train/7/*'.", show_default=False
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only images with this label.", show_default=False)
    ] = None,
    model: ModelOption = None,
    no_names: NoNames = False,
    no_labels: NoLabels = False,
    force: Force = False,
) -> None:
    """Copy some images of a smalti file into a new one. No pixel changes.

    Examples:
    smalti select scans.smalti -o first.smalti --stop 100

    smalti select digits.smalti -o sevens.smalti --label 7

    smalti select scans.smalti -o letters.smalti --name 'letters/*.png'
    """
    from smalti.archive.archive import Archive
    from smalti.archive.edit import matching
    from smalti.archive.edit import select as select_images

    target_of(output)
    place = standard(sys.stdin, "input").read() if file == STANDARD else file  # it is opened twice
    with Archive(place, model) as archive:
        rows = matching(archive, start=start, stop=stop, name=name, label=label)
    with progress("selecting") as advance:
        keep = {"names": not no_names, "labels": not no_labels}
        done = select_images(place, output, rows, model=model, force=force, progress=advance, **keep)
    typer.echo(f"{output}: {images(done.images)}, {size(done.bytes)}")


def verify(
    file: Place,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode all images, and check the checksums of their pixels.")
    ] = False,
    model: ModelOption = None,
) -> None:
    """Check whether a smalti file is whole. The exit code is 1 if it is not.

    Examples:
    smalti verify scans.smalti

    smalti verify scans.smalti --deep
    """
    from smalti.archive.verify import repairable
    from smalti.archive.verify import verify as verify_file

    with progress("verifying") as advance:
        wrong = verify_file(place_of(file), deep=deep, model=model, progress=advance)
    for line in wrong:
        typer.echo(f"smalti: {line}", err=True)
    if wrong:
        if file != STANDARD and repairable(file):
            typer.echo(f"smalti: {file} is damaged; save what is whole: smalti repair", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"{'standard input' if file == STANDARD else file} is whole"
        + (", and decodes to what was packed" if deep else "")
    )


def repair(
    file: Place,
    output: Output,
    model: ModelOption = None,
    force: Force = False,
) -> None:
    """Save every undamaged block of a damaged smalti file, even without its index, and print what is lost.

    The exit code is 1 if something is lost, or if the index is, for then nobody knows whether something is.

    Examples:
    smalti repair damaged.smalti -o saved.smalti
    """
    from smalti.archive.repair import repair as repair_file

    target_of(output)
    with progress("repairing") as advance:
        done = repair_file(place_of(file), output, model=model, force=force, progress=advance)
    for note in done.notes:
        typer.echo(note)
    typer.echo(f"{output}: {images(done.images)}")
    if not done.complete:
        typer.echo("smalti: not all of the file is saved for certain; see above", err=True)
        raise typer.Exit(1)
