# SPDX-License-Identifier: MIT
"""What reading a file as an array needs: decoded blocks that are kept, shared models, a picture of the first images."""
