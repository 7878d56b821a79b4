# SPDX-License-Identifier: MIT
"""Export trained networks to model bundles, and restore them for further training."""
