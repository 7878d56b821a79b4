# SPDX-License-Identifier: MIT
"""Helpers that know no image: atomic writes, storage, threads, hashes and numbers in bytes."""
