# SPDX-License-Identifier: MIT
"""Train a mixer: its networks on rows of samples, then its counters and weights by coding images."""
