# SPDX-License-Identifier: MIT
"""The command line of the benchmarks: `scripts/bench NAME ...` runs one of them."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.data import labels, test_images, train_images
from smalti.errors import SmaltiError
from smalti.model.bundle import DEFAULT_MODEL, load_model
from smalti.rate.target import DEFAULT_EFFORT

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder for the CSV, the table and the plot.")]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _benchmarks() -> None:
    """Run the benchmarks of smalti."""


@app.command()
def rd(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the test images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many images, from the first on.")] = None,
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
    effort: Annotated[
        list[int], typer.Option(min=1, max=9, help="An effort of smalti; may be given more than once.")
    ] = [  # noqa: B006 - nobody changes the list
        DEFAULT_EFFORT
    ],
) -> None:
    """Measure rate, distortion and speed of smalti and of the codecs that users would take instead."""
    from bench.rd import run

    run(test_images(data)[:images], output, data, model, effort)


@app.command()
def colour(
    data: Annotated[Path, typer.Argument(help="The folder that holds cifar.tar, emoji.tar, photos/ and so on.")],
    output: Output = Path("bench-out"),
    only: Annotated[list[str] | None, typer.Option(help="A set; may be given more than once.")] = None,
    images: Annotated[int, typer.Option(min=1, help="The most images of a set.")] = 1000,
    times: Annotated[bool, typer.Option("--times", help="Measure times as well; nothing else should run.")] = False,
) -> None:
    """Measure lossless coding of small colour images by smalti and by what people take instead."""
    from bench.colour import run

    run(data, output, only or [], images, times=times)


@app.command()
def fit(
    only: Annotated[list[str] | None, typer.Option(help="A kind of images; may be given more than once.")] = None,
    images: Annotated[int, typer.Option(min=100, help="The images of a kind.")] = 2000,
    packing: Annotated[list[str] | None, typer.Option(help="A packing with which to fit.")] = None,
    minutes: Annotated[float, typer.Option(help="Tune the lossless half for so many minutes as well; 0: not.")] = 0,
    lossy: Annotated[float, typer.Option(help="Tune the lossy half for so many minutes as well; 0: not.")] = 0,
) -> None:
    """Measure what pack --fit and train --from colour save on kinds of images that no model was trained on."""
    from bench.fitting import run

    run(only or [], images, packing or [], minutes, lossy)


@app.command()
def thumbnails(
    data: Annotated[Path, typer.Argument(help="The folder that holds cifar.tar, emoji.tar, photos/ and so on.")],
    output: Output = Path("bench-out"),
    only: Annotated[list[str] | None, typer.Option(help="A set; may be given more than once.")] = None,
    images: Annotated[int, typer.Option(min=2, help="The most images of a set, evenly spread.")] = 400,
    effort: Annotated[int, typer.Option(min=1, max=9, help="The effort of smalti.")] = DEFAULT_EFFORT,
    cache: Annotated[Path, typer.Option(help="The folder that keeps what rivals reached, for the next run.")] = Path(
        "bench-out/thumbnails-cache"
    ),
    times: Annotated[bool, typer.Option("--times", help="Measure speed as well; nothing else may run.")] = False,
) -> None:
    """Measure lossy coding of small colour images by smalti, JPEG, WebP, AVIF and JPEG XL."""
    from bench.thumbnails.run import Plan, run

    run(data, output, cache, Plan(tuple(only or ()), images, effort, times))


@app.command()
def resizing(
    data: Annotated[Path, typer.Argument(help="The folder that holds photos/.")],
    images: Annotated[int, typer.Option(min=1, help="The most photographs.")] = 100,
) -> None:
    """Measure ways to reduce photographs to thumbnails: in sRGB, in linear light, and as `pack --resize` does."""
    from bench.resizing import run

    run(data, images)


@app.command()
def engines(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the test images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many images, from the first on.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="The name of a way of coding, or 'others'; may be given more than once.")
    ] = None,
) -> None:
    """Measure the processor time of numpy and of each kernel of the compiled core."""
    from bench.engines import run

    run(test_images(data), output, data, images, only or ())


@app.command()
def target(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the test images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many images, from the first on.")] = None,
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
    psnr: Annotated[list[float], typer.Option(help="A PSNR in dB; may be given more than once.")] = [22.0, 27.8, 32.0],  # noqa: B006 - nobody changes the list
    effort: Annotated[
        list[int], typer.Option(min=1, max=9, help="An effort of smalti; may be given more than once.")
    ] = [  # noqa: B006 - nobody changes the list
        DEFAULT_EFFORT
    ],
) -> None:
    """Measure the bytes and the time that a requested mean PSNR takes."""
    from bench.target import run

    run(test_images(data)[:images], model, psnr, effort, output, data)


@app.command()
def lossless(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the test images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many images, from the first on.")] = None,
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
) -> None:
    """Measure rate and speed of lossless coding alone, which is faster than all of `rd`."""
    from bench.rd import run_lossless

    run_lossless(test_images(data)[:images], output, data, model)


@app.command()
def append(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the images.")
    ] = "mnist",
    appends: Annotated[int, typer.Option(min=20, help="How many images are appended, one at a time.")] = 10_000,
    named: Annotated[bool, typer.Option("--named", help="Give each image a name and a label.")] = False,
) -> None:
    """Append images one at a time, read one after each, and print what both cost as the file grows."""
    from bench.append import run

    run(test_images(data), appends, named=named)


@app.command()
def far(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the images.")
    ] = "mnist",
    images: Annotated[int, typer.Option(min=256, help="How many images the file has.")] = 1_000_000,
) -> None:
    """Count the requests and bytes that it takes to read single images of a file on an HTTP server and on S3."""
    from bench.far import run

    run(test_images(data)[:2048], images)


@app.command()
def limit(
    data: Annotated[
        Literal["mnist", "fashion-mnist"], typer.Option(help="The data set to train and test on.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
    steps: Annotated[int, typer.Option(min=1, help="Training steps for the variational bound.")] = 2500,
    images: Annotated[int, typer.Option(min=4, help="How many test images smalti codes.")] = 1000,
    test: Annotated[int | None, typer.Option(min=800, help="Take only so many test images for the bounds.")] = None,
    effort: Annotated[int, typer.Option(min=1, max=9, help="The effort of smalti.")] = 9,
) -> None:
    """Compute upper bounds of the rate-distortion function, and compare smalti with them."""
    from bench.limit import run

    run(load_model(model), train_images(data), test_images(data)[:test], steps, images, effort, output)


@app.command()
def single(
    data: Annotated[
        Literal["mnist", "fashion-mnist"], typer.Option(help="The data set to train and test on.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
    steps: Annotated[int, typer.Option(min=1, help="Training steps for each of the two networks.")] = 2000,
    point: Annotated[
        int, typer.Option(min=0, max=64, help="The operating point to train for, of coding by latents.")
    ] = 20,
    error: Annotated[
        int | None, typer.Option(min=1, max=126, help="Instead: the largest error to train for, of coding by pixels.")
    ] = None,
) -> None:
    """Measure how many bytes one model for all qualities loses against one that is trained for a single quality."""
    from bench.train import single as run
    from bench.train import single_pixels

    loaded, x_train, x_test = load_model(model), train_images(data), test_images(data)[:2000]
    if error is None:
        run(loaded, x_train, x_test, point / 64, steps, output)
    else:
        single_pixels(loaded, x_train, x_test, error, steps, output)


@app.command()
def sizes(
    data: Annotated[
        Literal["mnist", "fashion-mnist"], typer.Option(help="The data set to train and test on.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int, typer.Option(min=4, help="How many test images to take, from the first on.")] = 2048,
    steps: Annotated[int, typer.Option(min=1, help="Training steps for each size.")] = 3000,
) -> None:
    """Measure the bytes that a larger network for lossless coding saves, and its speed."""
    from bench.sizes import run

    run(load_model(), train_images(data), test_images(data)[:images], steps, output)


@app.command()
def classify(
    output: Output = Path("bench-out"),
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many test images, from the first on.")] = None,
    effort: Annotated[
        list[int], typer.Option(min=1, max=9, help="An effort of smalti; may be given more than once.")
    ] = [  # noqa: B006 - nobody changes the list
        DEFAULT_EFFORT
    ],
) -> None:
    """Measure how well a classifier that was trained on originals reads decoded images of MNIST."""
    from bench.classify import run

    train = train_images("mnist"), labels("mnist", "train")
    test = test_images("mnist")[:images], labels("mnist", "t10k")[:images]
    run(load_model(model), train, test, effort, output)


@app.command()
def archive(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=0, help="Take only so many images, from the first on.")] = None,
    synthetic: Annotated[int, typer.Option(min=0, help="How many synthetic images to make for a second table.")] = 10
    ** 6,
    only: Annotated[list[str], typer.Option(help="The name of a container; may be given more than once.")] = [],  # noqa: B006 - nobody changes the list
    seconds: Annotated[float, typer.Option(min=0.01, help="The most seconds for random reads of each kind.")] = 5,
    together: Annotated[bool, typer.Option(help="Measure a container in one process: faster, but less fair.")] = False,
) -> None:
    """Measure bytes, speed, random access and memory of smalti and of other containers."""
    from bench.archive import Plan, run

    run(output, data, Plan(images, synthetic, only, seconds, together))


@app.command()
def overhead(
    data: Annotated[Literal["mnist", "fashion-mnist"], typer.Option(help="The data set of the test images.")] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=4, help="Take only so many images, from the first on.")] = None,
    model: Annotated[str, typer.Option(help="The name of a model, or the path of a bundle.")] = DEFAULT_MODEL,
) -> None:
    """Measure the bytes that a file takes beside its payloads, and those of the order of its images."""
    from bench.overhead import run

    run(test_images(data)[:images], labels(data, "t10k")[:images].tolist(), model, output, data)


@app.command()
def choice(
    output: Output = Path("bench-out"),
    images: Annotated[
        int | None, typer.Option(min=100, help="Take only so many images of each data set, from the first on.")
    ] = None,
) -> None:
    """Measure how well the choice of the model knows kinds of images, and the time and the bytes that it takes."""
    from bench.choice import run

    run(images, output)


@app.command()
def loader(
    data: Annotated[
        Literal["mnist", "fashion-mnist", "drawn"], typer.Option(help="The data set of the test images.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int | None, typer.Option(min=64, help="Take only so many images, from the first on.")] = None,
    files: Annotated[Path | None, typer.Option(help="A folder where the files are kept and found again.")] = None,
) -> None:
    """Measure how fast PyTorch loads images from smalti, from a folder of PNG files, and from tar files of them."""
    from bench.loader import run

    x = test_images(data)[:images]
    run(
        x,
        [i % 10 for i in range(len(x))] if data == "drawn" else labels(data, "t10k")[: len(x)].tolist(),
        output,
        data,
        files,
    )


@app.command()
def copies(
    data: Annotated[
        Literal["mnist", "drawn"], typer.Option(help="The data set of the digits; drawn ones take no download.")
    ] = "mnist",
    images: Annotated[int, typer.Option(min=10, help="How many images there are twice.")] = 10_000,
) -> None:
    """Measure what images take that are there twice."""
    from bench.copies import run

    run(test_images(data)[:images])


@app.command()
def access(
    data: Annotated[
        Literal["mnist", "drawn"], typer.Option(help="The data set of the digits; drawn ones take no download.")
    ] = "mnist",
    output: Output = Path("bench-out"),
    images: Annotated[int, typer.Option(min=300, help="How many digits are packed for the curve of packings.")] = 2048,
    many: Annotated[int, typer.Option(min=300, help="The images of the file that cold processes open.")] = 70_000,
    photos: Annotated[Path | None, typer.Option(help="A folder of photographs; their middle 192x192 is taken.")] = None,
    files: Annotated[Path | None, typer.Option(help="A folder where the files of many images are kept.")] = None,
) -> None:
    """Measure what one image costs in bytes and in time, by packing and block size, and what a first image costs."""
    from bench.access import run

    run(test_images(data)[:images], photos, output, many, files)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="scripts/bench")
    except SmaltiError as exc:
        typer.echo(f"bench: {exc}", err=True)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
