# SPDX-License-Identifier: MIT
"""Drawn samples, pictures, baselines and downloads for the demo, the benchmarks and the tests."""
