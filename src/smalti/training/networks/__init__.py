# SPDX-License-Identifier: MIT
"""The networks while they train: transforms, priors and post-filter, in floats that follow the decoder's integers."""
