# SPDX-License-Identifier: MIT
"""The bytes of a smalti file: records, index, annotations. This wing knows no pixels."""
