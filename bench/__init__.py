# SPDX-License-Identifier: MIT
"""Benchmarks of smalti beside other codecs and containers. They are run by `scripts/bench` and are not shipped."""
