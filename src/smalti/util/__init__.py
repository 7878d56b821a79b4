# SPDX-License-Identifier: MIT
"""Helpers that know nothing of images: atomic writes, storage, threads, binary numbers."""
