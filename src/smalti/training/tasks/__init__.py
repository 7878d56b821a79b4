# SPDX-License-Identifier: MIT
"""Tasks: for each kind of network, how the training loop builds it, its loss, and how it is judged."""
