# SPDX-License-Identifier: MIT
"""Lay out the networks of a model for the search of latents in the compiled core."""
