# SPDX-License-Identifier: MIT
"""Encode one image to bytes and decode it, for a database or a message.

Run it with: python examples/one_image.py
"""

import smalti
from smalti.demo.samples import draw_digits

image = draw_digits(4)[3]  # h w, uint8
data = smalti.encode(image, quality=40)
x_hat = smalti.decode(data)
print(f"{image.size} pixels in {len(data)} bytes; in a file of many images it would take about 20")
assert x_hat.shape == image.shape
assert len(data) < 120
