# SPDX-License-Identifier: MIT
"""Parts of reading: opening, models that are shared, decoded blocks that are kept, indexes, a picture of images."""
