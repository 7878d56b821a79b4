# SPDX-License-Identifier: MIT
"""The command `smalti`, also as `python -m smalti`: signals first, then all that takes time to import."""

import signal
import sys


def main() -> None:
    """Run the command line; what tells it to end (Ctrl-C, SIGTERM, a closed terminal) leaves no temporary files."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: sys.exit(128 + number))
    try:
        from smalti.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
