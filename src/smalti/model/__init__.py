# SPDX-License-Identifier: MIT
"""Models: bundles, networks, priors, and operating points."""
