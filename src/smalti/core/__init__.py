# SPDX-License-Identifier: MIT
"""The compiled core: the same integers as numpy computes, faster. Its C sources are in `core/`, beside `src/`."""
