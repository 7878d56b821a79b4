# SPDX-License-Identifier: MIT
"""Benchmark of small pictures with loss: bytes, quality and speed of smalti, JPEG, WebP, AVIF and JPEG XL."""
