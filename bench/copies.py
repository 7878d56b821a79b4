# SPDX-License-Identifier: MIT
"""Benchmark of images that are there twice: what the copies take; a table."""

import io

import numpy as np
from rich.console import Console

import smalti
from smalti.types import Pixels

PACKINGS = ("block", "each")


def run(x: Pixels) -> None:
    """Pack the images `x` alone, then all of them twice in random order, and print what a copy takes."""
    console, n = Console(width=200), len(x)
    order = np.random.default_rng(0).permutation(2 * n) % n
    console.print(f"{n:,} images, lossless, and a copy of each, in random order")
    console.print("| packing | bytes of the images alone | with the copies | bytes a copy |")
    console.print("| --- | ---: | ---: | ---: |")
    _, firsts = np.unique(order, return_index=True)
    alone = x[order[np.sort(firsts)]]  # in the order in which they first come
    for packing in PACKINGS:
        before, after = (_packed(images, packing) for images in (alone, x[order]))
        if after.copies != n:
            raise AssertionError(f"{after.copies} copies were found of {n}")
        console.print(f"| {packing} | {before.bytes:,} | {after.bytes:,} | {(after.bytes - before.bytes) / n:.2f} |")


def _packed(images: Pixels, packing: str) -> smalti.Packed:
    return smalti.pack(images, io.BytesIO(), lossless=True, model="mnist", packing=packing)
