# SPDX-License-Identifier: MIT
"""Fit the mixer of a model to a collection before it is packed: differences of networks, and a primer."""
