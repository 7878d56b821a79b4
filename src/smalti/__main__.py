# SPDX-License-Identifier: MIT
"""The command `smalti`, also run as `python -m smalti`."""

import signal
import sys


def main() -> None:
    """Run the command line, so that Ctrl-C, SIGTERM and a closed terminal end it without leaving temporary files.

    The handlers are set before the imports, which take time.
    """
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
