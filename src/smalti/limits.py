# SPDX-License-Identifier: MIT
"""What an image of a smalti file may be at most, whoever reads or writes it. Standard library only."""

MAX_NAME_BYTES = 4096
"""The longest name of an image, in bytes of UTF-8."""
MAX_SIDE = (1 << 16) - 1
"""The largest height or width of an image, in pixels."""
MAX_IMAGE_SAMPLES = 1 << 24
"""The largest height * width * channels of an image: what a reader may have to hold at once."""
