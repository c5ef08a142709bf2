"""The kernel's lock on an open file: taken, held by another process, or not to be had on this file system.

In: an open file and its path. Out: whether the lock is this process's now; it is released when the file is closed, at the latest
with the process. Some network and FUSE file systems have no locks: without one two runs could write the same files at once, so
that is an error that says what to do, and never a lock that is not one.

    with path.open("ab", buffering=0) as stream:
        if not take(stream, path):
            ...  # another process holds it
"""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import IO

from engine.errors import RunFailed

# ENOLCK: NFS without its lock service. The others: FUSE and network file systems that do not know the call.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


def take(file: IO[bytes] | int, path: Path, *, wait: bool = False) -> bool:
    """True where the lock is held now, False where another process holds it (never with ``wait``).

    Raises RunFailed X310 on a file system without locks, OSError for what else the system refused.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise RunFailed(
            "X310",
            f"the file system of {path.parent} has no locks ({error.strerror or error.errno}), so that two runs could write there at once",
            hint="put the project (the hub's cache: HF_HOME) on a local disk; on NFS start its lock service, or mount it with "
            "local_lock=flock where only this machine writes",
        ) from None
    return True
