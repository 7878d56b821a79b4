# SPDX-License-Identifier: MIT
"""Lock a file against other processes. The operating system lifts the lock when the process ends, however it ends."""

import os
import sys
from typing import BinaryIO

LOCKED_BYTE = 1 << 48
"""The byte that is locked on Windows, where a lock hinders readers: no archive reaches it."""


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; return False if another process, or another open file, has locked it.

    On a file system without locks, nothing is locked.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            place = file.tell()
            os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(place)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
