# SPDX-License-Identifier: MIT
"""The networks in torch: transforms, priors and post-filter, in floats that follow the decoder's integers."""
