# SPDX-License-Identifier: MIT
"""Rate control: what the caller asked for, and how it is met."""
