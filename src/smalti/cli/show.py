# SPDX-License-Identifier: MIT
"""smalti figure and demo: things to look at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smalti.cli.console import progress
from smalti.cli.files import Force, ModelOption, Quality

if TYPE_CHECKING:
    from smalti.model.model import Model
    from smalti.types import Pixels

DEMO_IMAGES = 100
DEMO_EFFORT = 8
FIGURE_IMAGES = 20


def figure(
    sources: Annotated[list[str], typer.Argument(metavar="SRC", help="Folders, images, idx or npz files.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="The picture to write.")],
    model: ModelOption = None,
    quality: Quality = 50,
    images: Annotated[int, typer.Option(min=1, max=400, help="How many images to show, from the first.")] = (
        FIGURE_IMAGES
    ),
    force: Force = False,
) -> None:
    """Draw originals (left) beside reconstructions (right), with bytes and PSNR under each.

    Examples:
    smalti figure t10k-images-idx3-ubyte.gz -o pairs.png

    smalti figure scans/ -o pairs.png --quality 20 --images 40
    """
    from smalti.errors import UsageError
    from smalti.exchange.sources import read_images
    from smalti.model.bundle import DEFAULT_MODEL, load_model
    from smalti.types import describe
    from smalti.util.atomic import refuse_existing

    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: give the picture a name that ends in .png")
    refuse_existing(output, force=force)
    loaded = load_model(model or DEFAULT_MODEL)
    source = read_images(*sources, labelled=False)
    if source.shape != loaded.image_shape:
        raise UsageError(
            f"the images are {describe(source.shape)}, model {loaded.name} takes {describe(loaded.image_shape)}"
        )
    typer.echo(_figure(source.pixels[:images], loaded, quality, output, force=force))


def demo(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write; an earlier demo there is replaced.")
    ] = Path("smalti-demo"),
    quality: Quality = 50,
) -> None:
    """Draw sample digits, pack and unpack them, compare with PNG, JPEG and WebP, and write a picture.

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
    """Pack `x` to `path`, unpack it, and print a table beside other codecs at the same PSNR or better."""
    from rich.console import Console
    from rich.table import Table

    from smalti.api import load, pack
    from smalti.demo.baselines import cut, jpeg, lowest_quality, mosaic, webp
    from smalti.exchange.formats.pictures import png_bytes
    from smalti.rate.metrics import mse, psnr

    with progress("packing") as advance:
        packed = pack(x, path, model=model, quality=quality, effort=DEMO_EFFORT, force=True, progress=advance)
    with progress("unpacking") as advance:
        error = mse(x, load(path, model=model, progress=advance).pixels)
    exact = path.with_name("digits-lossless.smalti")
    with progress("packing") as advance:
        lossless = pack(x, exact, model=model, max_error=0, force=True, progress=advance)
    left = mse(x, load(exact, model=model).pixels)
    n, h, w = x.shape
    rows = [("raw pixels", h * w, 0.0), ("PNG, a file each", sum(len(png_bytes(image)) for image in x) / n, 0.0)]
    for name, encode in (("JPEG", jpeg), ("WebP", webp)):
        files, decoded = lowest_quality(x, error, encode)
        rows.append((f"{name}, a file each", sum(map(len, files)) / n, mse(x, decoded)))
        files, sheet = lowest_quality(mosaic(x)[None], error, encode)
        rows.append((f"{name}, one sheet of all", len(files[0]) / n, mse(x, cut(sheet[0], n, h, w))))
    rows += [("smalti, lossless", lossless.rate, left), ("smalti, one file of all", packed.rate, error)]
    table = Table("codec", title=f"{n} drawn digits, everything counted")
    table.add_column("PSNR", justify="right")
    table.add_column("bytes an image", justify="right")
    for name, rate, distortion in rows:
        quality_shown = f"{psnr(distortion):.2f} dB" if distortion else "lossless"
        table.add_row(name, quality_shown, f"{rate:.1f}", style="bold" if name.startswith("smalti") else "")
    Console().print(table)


def _figure(x: "Pixels", model: "Model", quality: int, path: Path, *, force: bool) -> str:
    """Draw `x` and what smalti makes of it to `path`; what was done, in a line."""
    from smalti.codec.block_codec import encode_images
    from smalti.codec.rdo import EFFORTS
    from smalti.demo.figure import draw_pairs
    from smalti.rate.metrics import mse, psnr
    from smalti.util.atomic import atomic_write

    with progress("coding") as advance:
        (block,) = encode_images([x], model.operating_points.of_quality(quality), model, EFFORTS[DEMO_EFFORT])
        advance(len(x), len(x))
    found, x_hat = block.rate, block.x_hat
    measured = f"{found.mean():.1f} bytes an image (payload), {psnr(mse(x, x_hat)):.2f} dB"
    with atomic_write(path, force=force) as file:
        draw_pairs(x, x_hat, found.tolist(), f"{model.name}, quality {quality}: {measured}").save(file, "PNG")
    return f"{path}: {len(x)} images, {measured}"
