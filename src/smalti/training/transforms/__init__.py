# SPDX-License-Identifier: MIT
"""Train a transform: crops of images, networks in floats, their fit, and their export to integers."""
