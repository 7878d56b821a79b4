# SPDX-License-Identifier: MIT
"""Models: bundles, networks, priors, and the operating points at which they code."""
