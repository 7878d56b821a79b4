# SPDX-License-Identifier: MIT
"""Read images from other formats and write images to them: folders, archives, arrays, tables."""
