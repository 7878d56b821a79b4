# SPDX-License-Identifier: MIT
"""The other formats, one file each, with reading and writing side by side."""
