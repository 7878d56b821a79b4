# SPDX-License-Identifier: MIT
"""The bytes of a smalti file on disk: records, index, annotations. It knows no image."""
