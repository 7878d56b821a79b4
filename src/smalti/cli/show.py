# SPDX-License-Identifier: MIT
"""The commands smalti figure and demo, which show reconstructions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smalti.cli.console import progress
from smalti.cli.options import CodingModel, Force, Quality

if TYPE_CHECKING:
    from smalti.model.model import Model
    from smalti.types import Pixels

DEMO_IMAGES = 100
DEMO_EFFORT = 8
FIGURE_IMAGES = 20


def figure(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC", help="Folders, image files, idx or npz files; all images have one size."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="The PNG file to write.")],
    model: CodingModel = "auto",
    quality: Quality = 50,
    images: Annotated[int, typer.Option(min=1, max=400, help="How many images to show, from the first on.")] = (
        FIGURE_IMAGES
    ),
    force: Force = False,
) -> None:
    """Draw originals (left) beside their reconstructions (right), with bytes and PSNR under each pair.

    Examples:
    smalti figure t10k-images-idx3-ubyte.gz -o pairs.png

    smalti figure scans/ -o pairs.png --quality 20 --images 40
    """
    from smalti.errors import UsageError
    from smalti.exchange.sources import read_images
    from smalti.model.bundle import load_model
    from smalti.rate.model_choice import AUTO
    from smalti.types import describe
    from smalti.util.atomic import refuse_existing

    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: give the picture a name that ends in .png")
    refuse_existing(output, force=force)
    loaded = None if model == AUTO else load_model(model)
    source = read_images(*sources, labelled=False)
    if loaded is not None and source.shape != loaded.image_shape:
        raise UsageError(
            f"the images are {describe(source.shape)}, model {loaded.name} takes {describe(loaded.image_shape)}"
        )
    typer.echo(_figure(source.pixels[:images], loaded, quality, output, force=force))


def demo(
    folder: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="The folder to write to. An earlier demo in it is replaced."
        ),
    ] = Path("smalti-demo"),
    quality: Quality = 50,
) -> None:
    """Draw sample digits, pack and unpack them, compare the sizes with PNG, JPEG and WebP, and write a picture.

    Examples:
    smalti demo
    """
    from smalti.demo.samples import draw_digits
    from smalti.model.bundle import load_model
    from smalti.model.operating_points import check_quality
    from smalti.util.atomic import output_error

    model = load_model()
    check_quality(quality)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    x = draw_digits(DEMO_IMAGES)
    typer.echo(f"Drew {len(x)} digits of 28x28 pixels; model {model.name}, quality {quality}.")
    _compare(x, model, quality, folder / "digits.smalti")
    typer.echo(_figure(x[:FIGURE_IMAGES], model, quality, folder / "digits.png", force=True))
    typer.echo(f"Your turn: smalti unpack {folder / 'digits.smalti'} -o {folder / 'digits'}")


def _compare(x: "Pixels", model: "Model", quality: int, path: Path) -> None:
    """Pack `x` to `path`, unpack it, and print its size beside those of other codecs at the same PSNR or better."""
    from rich.console import Console
    from rich.table import Table

    from smalti.api import load, pack
    from smalti.demo.baselines import cut, jpeg, lowest_quality, mosaic, webp
    from smalti.exchange.formats.image_files import png_bytes
    from smalti.rate.metrics import mse, psnr

    with progress("packing") as advance:
        packed = pack(x, path, model=model, quality=quality, effort=DEMO_EFFORT, force=True, progress=advance)
    with progress("unpacking") as advance:
        error = mse(x, load(path, model=model, progress=advance).pixels)
    exact = path.with_name("digits-lossless.smalti")
    with progress("packing") as advance:
        lossless = pack(x, exact, model=model, max_error=0, force=True, progress=advance)
    exact_error = mse(x, load(exact, model=model).pixels)
    n, h, w = x.shape
    rows = [("raw pixels", h * w, 0.0), ("PNG, a file each", sum(len(png_bytes(image)) for image in x) / n, 0.0)]
    for name, encode in (("JPEG", jpeg), ("WebP", webp)):
        files, decoded = lowest_quality(x, error, encode)
        rows.append((f"{name}, a file each", sum(map(len, files)) / n, mse(x, decoded)))
        files, sheet = lowest_quality(mosaic(x)[None], error, encode)
        rows.append((f"{name}, one sheet of all", len(files[0]) / n, mse(x, cut(sheet[0], n, h, w))))
    rows += [("smalti, lossless", lossless.rate, exact_error), ("smalti, one file of all", packed.rate, error)]
    table = Table("codec", title=f"{n} drawn digits, all bytes of the files counted")
    table.add_column("PSNR", justify="right")
    table.add_column("bytes an image", justify="right")
    for name, rate, distortion in rows:
        quality_shown = f"{psnr(distortion):.2f} dB" if distortion else "lossless"
        table.add_row(name, quality_shown, f"{rate:.1f}", style="bold" if name.startswith("smalti") else "")
    Console().print(table)


def _figure(x: "Pixels", model: "Model | None", quality: int, path: Path, *, force: bool) -> str:
    """Draw `x` and its reconstruction to `path`; return a line that says so, with bytes and PSNR.

    model: the model of all images; None chooses one for each.
    """
    import numpy as np

    from smalti.codec.batching import Batch
    from smalti.codec.rdo import EFFORTS
    from smalti.demo.figure import draw_pairs
    from smalti.rate.metrics import mse, psnr
    from smalti.rate.model_choice import ModelChoice
    from smalti.rate.target import Target, code_blocks
    from smalti.util.atomic import atomic_write

    target = Target(quality)
    groups = ModelChoice(target).groups(x) if model is None else [(model, np.arange(len(x)))]
    image_sizes, x_hat, names = np.zeros(len(x)), x.copy(), dict[str, None]()  # bytes; n h w; names in order
    with progress("coding") as advance:
        batches = [Batch(x[rows], chosen) for chosen, rows in groups]
        for (chosen, rows), (_, block) in zip(groups, code_blocks(batches, target, EFFORTS[DEMO_EFFORT]), strict=True):
            image_sizes[rows], x_hat[rows], names[chosen.name] = block.rate, block.x_hat, None
            advance(len(rows), len(x))
    measured = f"{image_sizes.mean():.1f} bytes an image (payload), {psnr(mse(x, x_hat)):.2f} dB"
    with atomic_write(path, force=force) as file:
        draw_pairs(x, x_hat, image_sizes.tolist(), f"{' + '.join(names)}, quality {quality}: {measured}").save(
            file, "PNG"
        )
    return f"{path}: {len(x)} images, {measured}"
