# SPDX-License-Identifier: MIT
"""Symbols to bytes and back, by integer frequencies."""
