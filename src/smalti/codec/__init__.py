# SPDX-License-Identifier: MIT
"""Images to the payload of a block and back. Read `block_codec.py` first."""
