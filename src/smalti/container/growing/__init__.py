# SPDX-License-Identifier: MIT
"""Files that change: which images are shown, where they are stored, and how small sections become one."""
