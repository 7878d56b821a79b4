# SPDX-License-Identifier: MIT
"""Train a model and export it as a bundle. The only part of smalti that knows torch."""
