# SPDX-License-Identifier: MIT
"""What a payload says before its symbols, and how several payloads and single images are decoded together."""
