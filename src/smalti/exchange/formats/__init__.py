# SPDX-License-Identifier: MIT
"""One file for each format of images that smalti reads or writes."""
