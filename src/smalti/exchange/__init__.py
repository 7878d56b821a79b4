# SPDX-License-Identifier: MIT
"""Where images come from and go to: one file a kind of source, its reading and writing side by side."""
