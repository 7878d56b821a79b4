# SPDX-License-Identifier: MIT
"""Change smalti files: copy blocks, remove and replace images, write a file anew."""
