# SPDX-License-Identifier: MIT
"""Rate control: the targets that callers ask for, and how they are met."""
