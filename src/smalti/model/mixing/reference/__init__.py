# SPDX-License-Identifier: MIT
"""Mixing in Python's integers: what the compiled core is held against, and what decodes where there is no core."""
