# SPDX-License-Identifier: MIT
"""Drawn digits, figures, baseline codecs and downloads for demo, benchmarks and tests."""
