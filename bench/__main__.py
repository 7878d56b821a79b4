# SPDX-License-Identifier: MIT
"""`scripts/bench NAME ...` runs one of the benchmarks."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.data import labels, test_images, train_images
from smalti.errors import SmaltiError
from smalti.model.bundle import DEFAULT_MODEL, load_model
from smalti.rate.target import DEFAULT_EFFORT

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the CSV, the table and the plot.")]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _benchmarks() -> None:
    """Benchmarks of smalti."""


@app.command()
def rd(
    data: Annotated[Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="Test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Only so many images, from the first.")] = None,
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    effort: Annotated[list[int], typer.Option(min=1, max=9, help="Of smalti; may be given more than once.")] = [  # noqa: B006 - Typer reads it, nobody changes it
        DEFAULT_EFFORT
    ],
) -> None:
    """Rate, distortion and speed of smalti and of every codec a user would pick instead."""
    from bench.rd import run

    run(test_images(data)[:images], output, data, model, effort)


@app.command()
def target(
    data: Annotated[Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="Test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Only so many images, from the first.")] = None,
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    psnr: Annotated[list[float], typer.Option(help="dB; may be given more than once.")] = [22.0, 27.8, 32.0],  # noqa: B006 - as above
    effort: Annotated[list[int], typer.Option(min=1, max=9, help="Of smalti; may be given more than once.")] = [  # noqa: B006 - as above
        DEFAULT_EFFORT
    ],
) -> None:
    """What a mean PSNR that is asked for takes."""
    from bench.target import run

    run(test_images(data)[:images], model, psnr, effort, output, data)


@app.command()
def lossless(
    data: Annotated[Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="Test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Only so many images, from the first.")] = None,
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
) -> None:
    """Rate and speed of lossless coding alone, which takes less time than all of `rd`."""
    from bench.rd import run_lossless

    run_lossless(test_images(data)[:images], output, data, model)


@app.command()
def limit(
    data: Annotated[Literal["mnist", "fashion-mnist"], typer.Option(help="Trained on its training images.")] = "mnist",
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    steps: Annotated[int, typer.Option(min=1, help="Of training the variational bound.")] = 2500,
    images: Annotated[int, typer.Option(min=4, help="Test images that smalti codes.")] = 1000,
    test: Annotated[int | None, typer.Option(min=800, help="Only so many test images for the bounds.")] = None,
    effort: Annotated[int, typer.Option(min=1, max=9, help="Of smalti.")] = 9,
) -> None:
    """Upper bounds of the rate-distortion function, and what smalti takes beside them."""
    from bench.limit import run

    run(load_model(model), train_images(data), test_images(data)[:test], steps, images, effort, output)


@app.command()
def single(
    data: Annotated[Literal["mnist", "fashion-mnist"], typer.Option(help="Trained on its training images.")] = "mnist",
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for each of the two.")] = 2000,
    point: Annotated[int, typer.Option(min=0, max=64, help="Operating point of latents to train for.")] = 20,
    error: Annotated[int | None, typer.Option(min=1, max=126, help="Instead: of pixels, the largest error.")] = None,
) -> None:
    """What one model for all qualities costs at one of them."""
    from bench.train import single as run
    from bench.train import single_pixels

    loaded, x_train, x_test = load_model(model), train_images(data), test_images(data)[:2000]
    if error is None:
        run(loaded, x_train, x_test, point / 64, steps, output)
    else:
        single_pixels(loaded, x_train, x_test, error, steps, output)


@app.command()
def sizes(
    data: Annotated[Literal["mnist", "fashion-mnist"], typer.Option(help="Trained on its training images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int, typer.Option(min=4, help="Test images, from the first.")] = 2048,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for each size.")] = 3000,
) -> None:
    """What a larger network for lossless coding buys, and costs."""
    from bench.sizes import run

    run(load_model(), train_images(data), test_images(data)[:images], steps, output)


@app.command()
def classify(
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
    images: Annotated[int | None, typer.Option(min=4, help="Only so many test images, from the first.")] = None,
    effort: Annotated[list[int], typer.Option(min=1, max=9, help="Of smalti; may be given more than once.")] = [  # noqa: B006 - Typer reads it, nobody changes it
        DEFAULT_EFFORT
    ],
) -> None:
    """Accuracy of a classifier of MNIST, trained on originals, on decoded images."""
    from bench.classify import run

    train = train_images("mnist"), labels("mnist", "train")
    test = test_images("mnist")[:images], labels("mnist", "t10k")[:images]
    run(load_model(model), train, test, effort, output)


@app.command()
def archive(
    data: Annotated[Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="Train and test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=0, help="Only so many images, from the first.")] = None,
    synthetic: Annotated[int, typer.Option(min=0, help="Images that are made of them, for a second table.")] = 10**6,
    only: Annotated[list[str], typer.Option(help="Name of a container; may be given more than once.")] = [],  # noqa: B006 - as above
    seconds: Annotated[float, typer.Option(min=0.01, help="At most, for random reads of each kind.")] = 5,
    together: Annotated[bool, typer.Option(help="One process for all of a container: fast, but less fair.")] = False,
) -> None:
    """Bytes, speed, random access and memory of smalti and of the containers that people use instead."""
    from bench.archive import Plan, run

    run(output, data, Plan(images, synthetic, only, seconds, together))


@app.command()
def overhead(
    data: Annotated[Literal["mnist", "fashion-mnist"], typer.Option(help="Test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Only so many images, from the first.")] = None,
    model: Annotated[str, typer.Option(help="Name or path of the model.")] = DEFAULT_MODEL,
) -> None:
    """What a file takes beside its payloads, and what its order costs."""
    from bench.overhead import run

    run(test_images(data)[:images], labels(data, "t10k")[:images].tolist(), model, output, data)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="scripts/bench")
    except SmaltiError as exc:
        typer.echo(f"bench: {exc}", err=True)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
