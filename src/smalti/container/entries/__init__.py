# SPDX-License-Identifier: MIT
"""The entries of an index: blocks in tables, and the checks of all entries together. Standard library only."""
