# SPDX-License-Identifier: MIT
"""The parts of a bundle: arrays of its npz members, and members that are read only when they are needed."""
