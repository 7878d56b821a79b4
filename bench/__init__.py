# SPDX-License-Identifier: MIT
"""Benchmarks: smalti beside the codecs a user would pick instead. Not shipped; run by `scripts/bench`."""
