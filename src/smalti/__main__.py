# SPDX-License-Identifier: MIT
"""`python -m smalti` is the command `smalti`."""

from smalti.cli import main

if __name__ == "__main__":
    main()
