# SPDX-License-Identifier: MIT
"""Drawn digits, figures, baseline codecs and downloads for the demo, the benchmarks and the tests."""
