"""What helps against a refusal of the operating system: by its number, or by the exception that Python makes of it.

>>> hint_for(errno.EMFILE)
'too many files are open: raise the limit (ulimit -n 1024), then run again'
"""

from __future__ import annotations

import errno
import time

NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)

WAY = "something else is at that path: look at it, move it away, then run again"
DEVICE = "the disk or its file system has a fault: copy what you need from it, and look at the system's log (dmesg)"
OPEN_FILES = "too many files are open: raise the limit (ulimit -n 1024), then run again"
ANY_WRITE = "look at what is at that path, and at the disk it is on; then run again"
MISSING = "this system does not have it: run it on another file system or machine"
FILE_SIZE = (
    "a limit on the size of files: ulimit -f unlimited lifts that of this shell; some file systems have one of 4 GiB"
)


def machine_fault(error: BaseException) -> tuple[str, str] | None:
    """What an exception that is no OSError says about the machine, and what helps; None where it says nothing.

    >>> machine_fault(MemoryError())[0]
    'there is not enough memory'
    """
    if isinstance(error, MemoryError):
        return (
            "there is not enough memory",
            "close other programs, or raise the limit (ulimit -v unlimited); then run again",
        )
    if isinstance(error, OverflowError) and not _has_readable_clock():
        return "this machine's clock says a year after 2262, which Python cannot read", "set the clock, then run again"
    return None


def _has_readable_clock() -> bool:
    try:
        time.time()
    except OverflowError:
        return False
    return True


def hint_for(number: int | None, *, unforeseen: bool = False) -> str | None:
    """What helps against this error number, whatever was tried; None where nothing more is known.

    ``unforeseen``: by a command that does not know what was tried, which then has no hint of its own.
    """
    if unforeseen and number in NO_PERMISSION:
        return "give this user the right to do it there"
    if number in IN_THE_WAY:
        return WAY
    if number in TOO_MANY_FILES:
        return OPEN_FILES
    return {
        errno.EIO: DEVICE,
        errno.EFBIG: FILE_SIZE,
        errno.ENOSPC: "free some disk space",
        errno.ENOMEM: "close other programs",
        errno.ENOSYS: MISSING,
    }.get(number or 0)
