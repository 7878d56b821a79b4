# SPDX-License-Identifier: MIT
"""Encode images to the payload of a block and decode it. Read `block_codec.py` first."""
