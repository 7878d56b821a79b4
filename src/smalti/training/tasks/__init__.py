# SPDX-License-Identifier: MIT
"""What the training loop is told of each kind of network: how it is built, its loss, and how it is judged."""
