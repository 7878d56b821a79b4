# SPDX-License-Identifier: MIT
"""Prove that a stranger's networks decode exactly, stay within bounds and have the right shapes."""
