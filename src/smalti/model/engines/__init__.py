# SPDX-License-Identifier: MIT
"""Engines that run the networks of models: the compiled core, numpy and onnxruntime."""
