# SPDX-License-Identifier: MIT
"""Limits of the images that a smalti file may hold. Standard library only."""

MAX_NAME_BYTES = 4096
"""The longest name of an image, in bytes of UTF-8."""
MAX_PROFILE_BYTES = 1 << 20
"""The most bytes of the ICC profile of an image."""
MAX_SIDE = (1 << 16) - 1
"""The largest height or width of an image, in pixels."""
MAX_IMAGE_SAMPLES = 1 << 24
"""The largest height * width * channels of an image: a reader may have to hold as many samples in memory."""
