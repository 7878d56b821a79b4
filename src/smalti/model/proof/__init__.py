# SPDX-License-Identifier: MIT
"""Proofs that the networks of a bundle from a stranger are exact, bounded and of the right shapes."""
