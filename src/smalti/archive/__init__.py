# SPDX-License-Identifier: MIT
"""A smalti file for its user: a sequence of images, how it is packed, edited, verified and repaired."""
