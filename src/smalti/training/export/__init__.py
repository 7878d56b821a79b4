# SPDX-License-Identifier: MIT
"""Trained networks to model bundles, and back to networks that can be trained further."""
