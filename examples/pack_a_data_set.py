# SPDX-License-Identifier: MIT
"""Pack a data set, open the file, and read images in any order.

Run it with: python examples/pack_a_data_set.py
"""

import tempfile
from pathlib import Path

import smalti
from smalti.demo.samples import draw_digits
from smalti.rate.metrics import mse, psnr

digits = draw_digits(64)  # n h w, uint8: put your own images here

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.smalti"
    packed = smalti.pack(digits, path, quality=60)
    print(
        f"{packed.images} images of {digits[0].size} pixels in {packed.bytes} bytes: {packed.rate:.1f} bytes an image"
    )

    with smalti.open(path) as archive:
        print(f"image 7 has shape {archive[7].shape}; images 8 to 15 have {archive[8:16].shape}")
        error = mse(digits, archive[:])
        print(f"PSNR {psnr(error):.1f} dB")
        assert psnr(error) > 24
