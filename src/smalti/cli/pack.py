# SPDX-License-Identifier: MIT
"""The commands smalti pack, unpack and info."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from smalti.cli.console import images, progress, share
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
)
from smalti.cli.summary import report, report_unsuited


def pack(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The smalti file to write; - for standard output.")
    ],
    model: CodingModel = "auto",
    quality: AskedQuality = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            metavar="DB", help="Instead of --quality: give all images together this PSNR, in dB.", show_default=False
        ),
    ] = None,
    min_psnr: MinPsnr = None,
    bytes_an_image: Annotated[
        float | None,
        typer.Option(
            "--bytes",
            metavar="N",
            help="Instead of --quality: take at most N bytes an image on average, without names, labels and the like.",
            show_default=False,
        ),
    ] = None,
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
    unordered: Annotated[
        bool,
        typer.Option(
            "--unordered",
            help="Do not keep the order of the images, which saves about 1.4 bytes an image where thousands have one"
            " size and are packed without names. Where sizes differ, it costs bytes.",
        ),
    ] = False,
    block_images: BlockImages = 256,
    packing_kind: PackingKind = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="First fit a small part of the general model to the images, which takes minutes; for many images of"
            " one kind. The fit is in the file, with at most 64 kB, and is left out where it does not pay.",
        ),
    ] = False,
    on_error: OnError = "stop",
    convert: Convert = False,
    resize: Resize = None,
    hidden_colours: HiddenColours = "keep",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Pack images into one smalti file. Sizes and colours may differ from image to image.

    Examples:
    smalti pack scans/ -o scans.smalti

    smalti pack t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz -o test.smalti --psnr 24 --effort 8

    smalti pack scans/ -o scans.smalti --min-psnr 30

    smalti pack scans.tar -o scans.smalti --lossless --on-error skip

    smalti pack photos/ -o thumbnails.smalti --resize 256

    smalti pack data.npz#train_images -o train.smalti --model my.model --embed
    """
    from smalti.api import pack as pack_images
    from smalti.archive.writer import Packing
    from smalti.errors import UsageError
    from smalti.exchange.recognise import refuse_image_suffix
    from smalti.model.bundle import load_model
    from smalti.rate.model_choice import AUTO
    from smalti.rate.target import Target, effort_of
    from smalti.util.atomic import refuse_existing

    piped = str(output) == STANDARD
    if piped and as_json:
        raise UsageError("standard output takes the file or the JSON, not both; name a file with --output")
    if not piped:
        refuse_image_suffix(output)
        refuse_existing(output, force=force)
    max_error = lossless_error(lossless=lossless, max_error=max_error)
    target = Target(quality, psnr, min_psnr, bytes_an_image, max_error)  # a wrong one is refused before any reading
    effort_of(effort, target, metric, alpha_quality)
    packing = Packing(
        block_images, embed=embed, unordered=unordered, metadata=read_metadata(metadata), streams=packing_kind
    )
    loaded, skipped = AUTO if model == AUTO else load_model(model), Skipped()  # a wrong name is refused early, too
    source = read_sources(
        sources,
        labels,
        skipped.on_bad(on_error),
        no_names=no_names,
        no_labels=no_labels,
        convert=convert,
        resize=resize,
    )
    with share("fitting", shown=fit) as fitting, progress("packing") as advance:
        packed = pack_images(
            source,
            standard(sys.stdout, "output") if piped else output,
            model=loaded,
            target=target,
            effort=effort,
            metric=metric,
            alpha_quality=alpha_quality,
            packing=packing,
            hidden_colours=hidden_colours,
            force=force,
            progress=advance,
            fit=fitting if fit else False,
        )
    report("standard output" if piped else output, packed, as_json=as_json, piped=piped)
    if bytes_an_image is not None and packed.rate > bytes_an_image:
        typer.echo(
            f"smalti: names, labels, profiles, metadata and models come on top of {bytes_an_image:g} bytes an image",
            err=True,
        )
    report_unsuited(packed, model, lossless=max_error == 0, exact=min_psnr is None and max_error is None)
    skipped.report()


def unpack(
    file: Place,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="TARGET",
            help="A folder for PNG files, or a file: .npz, .npy, .tar, .tar.gz, .zip, .parquet, FILE-idx3-ubyte[.gz].",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as one JSON object.")] = False,
) -> None:
    """Print what a smalti file holds, without decoding its images.

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
            shown = "; ".join(value) or "none"
        typer.echo(f"{key.replace('_', ' '):{width}}  {shown}")
