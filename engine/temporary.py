"""Temporary files: every one has an owner, and what a killed owner leaves behind is found and removed.

In: the path that a file is to have. Out: a stream into a file beside it, named ``.NAME.XXXXXXXX.tmp``, which takes the
path when the block ends: complete or not at all. Its writer holds a kernel lock on it, so that a later process can tell
a file in progress from one whose writer was killed (:func:`remove_leftovers`), without clocks or process numbers.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "card.json") as stream:
    ...     _ = stream.write(b"{}")
    ...     _ = (folder / ".card.json.0123abcd.tmp").write_bytes(b"half")  # as a killed process would leave it
    ...     remove_leftovers(folder)
    ['.card.json.0123abcd.tmp']
    >>> [path.name for path in folder.iterdir()]
    ['card.json']
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"  # in a working folder
NAME = re.compile(r"\.(?P<target>.+)\.[a-z0-9_]{8}\.tmp", re.DOTALL)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write the complete file or nothing: a temporary file beside it, fsync, rename, fsync of the folder.

    Raises OSError (disk full, no permission), which names ``path`` and not the temporary file; the previous file is then
    as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary(path) as (stream, temporary):
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files 0600; open() would apply the umask
            os.replace(temporary, path)  # before the stream is closed, which lets go of the lock
        fsync_dir(path.parent)
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def remove_leftovers(folder: Path, of: Callable[[str], bool] = lambda _: True) -> list[str]:
    """Remove the temporary files of killed writers in this folder (not below); returns their names.

    ``of`` says of which targets. One that is still being written stays, and so does one that cannot be removed.
    """
    removed = []
    with suppress(OSError):  # no such folder, or whoever needs it will say what is wrong with it
        for path in sorted(folder.iterdir()):
            match = NAME.fullmatch(path.name)
            if match and of(match["target"]) and _removed_without_owner(path):
                removed.append(path.name)
    return removed


@contextmanager
def working_folder(prefix: str) -> Iterator[Path]:
    """A new folder for the time of the block, in the system's folder for temporary files; nothing of it remains.

    Those of this user and prefix whose process was killed are removed first.
    """
    parent = Path(tempfile.gettempdir())
    with suppress(OSError):
        for earlier in parent.glob(f"{prefix}*/{LOCK}"):
            _remove_folder_without_owner(earlier)
    with _owned_folder(prefix) as folder:
        yield folder


@contextmanager
def _owned_folder(prefix: str) -> Iterator[Path]:
    """A new folder whose lock is ours. Another is made where a cleaning process was quicker than the lock."""
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix) as name:
            descriptor = os.open(Path(name, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if _is_locked(descriptor, without_locks=True) and os.fstat(descriptor).st_nlink:
                    yield Path(name)
                    return
            finally:
                os.close(descriptor)


def fsync_dir(path: Path) -> None:
    """Make a rename inside ``path`` survive a power failure (POSIX; elsewhere a folder cannot be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
            errno.ENOSYS,
        ):  # a file system that cannot do it for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    descriptor, temporary = _create(path)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream, temporary
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _create(path: Path) -> tuple[int, str]:
    """A new file whose lock is ours. Another is made where a cleaning process was quicker than the lock."""
    while True:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        if _is_locked(descriptor, without_locks=True) and os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)


def _is_locked(descriptor: int, *, without_locks: bool) -> bool:
    """Take the file's lock; False where another process has it, ``without_locks`` where the file system has none."""
    if sys.platform == "win32":
        return without_locks
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


def _removed_without_owner(path: Path) -> bool:
    with suppress(OSError):
        # A link, a pipe or a folder of such a name is not ours; neither is followed, waited for or removed.
        if not path.is_file() or path.is_symlink():
            return False
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _is_locked(descriptor, without_locks=False):
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False


def _remove_folder_without_owner(lock: Path) -> None:
    with suppress(OSError):
        if lock.is_symlink() or (os.name == "posix" and lock.parent.lstat().st_uid != os.getuid()):
            return
        descriptor = os.open(lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _is_locked(descriptor, without_locks=False):
                shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
