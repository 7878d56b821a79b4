# SPDX-License-Identifier: MIT
"""Coding by transform: blocks of 8x8 pixels to coefficients and back, and how likely each coefficient is."""
