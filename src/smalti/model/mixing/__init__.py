# SPDX-License-Identifier: MIT
"""The mixer: a model that codes images of any size, channels and content by context mixing."""
