# SPDX-License-Identifier: MIT
"""Whole smalti files: read as sequences of images, written, edited, verified and repaired."""
