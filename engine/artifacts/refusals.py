"""State that is there and cannot be read, as an error that names the file and says what helps.

In: the path of a file that keeps state, or an OSError. Out: its bytes, None where there is no file, or RunFailed R112;
R105 where an artifact is not what was published.

    >>> explain_read_error(PermissionError(13, "Permission denied", "journal.jsonl"), Path("journal.jsonl")).hint
    'give this user the right to read it; if another user made it: sudo chown -R $USER journal.jsonl'
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.errors import RunFailed

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


def read_state(path: Path, cure: str) -> bytes | None:
    """The bytes of a file that keeps state; None where there is none. Raises RunFailed R112 with the file's name.

    ``cure`` says what follows when the file is moved away.
    """
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():  # a pipe would be waited for
            raise OSError(errno.EEXIST, "it is not a plain file", str(path))
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_read_error(error, path, cure) from error


@contextmanager
def explained_reading(path: Path, cure: str = "") -> Iterator[None]:
    """Turn an OSError of the block into R112."""
    try:
        yield
    except OSError as error:
        raise explain_read_error(error, path, cure) from error


def explain_read_error(error: OSError, path: Path, cure: str = "") -> RunFailed:
    """R112, with a hint for this kind of refusal."""
    file = error.filename or str(path)
    hint = hint_for(error.errno) or f"look at it: {error.strerror or error}"
    if error.errno in NO_PERMISSION:
        hint = (
            f"give this user the right to read it; if another user made it: sudo chown -R $USER {_folder(Path(file))}"
        )
    return RunFailed(
        "R112", f"cannot read {file}: {error.strerror or error}", hint="\n".join(filter(None, [hint, cure]))
    )


def unforeseen_refusal(error: OSError) -> RunFailed | None:
    """R113 for a refusal of the system that no command foresaw, such as too many open files; None for what may be our fault."""
    hint = hint_for(error.errno) or {errno.ENOMEM: "close other programs", errno.ENOSYS: MISSING}.get(error.errno or 0)
    if error.errno in NO_PERMISSION:
        hint = "give this user the right to do it there"
    if hint is None:
        return None
    what = f"{error.filename}: " if error.filename else ""
    return RunFailed("R113", f"the system refused what this command needs: {what}{error.strerror or error}", hint=hint)


def changed_on_disk(type_: str, step: str, names: Sequence[str], spec: str) -> RunFailed:
    """R105: files of an artifact are not what its step published. ``spec``: the run-spec, as a person types it."""
    return RunFailed(
        "R105",
        f'the {type_} made by step "{step}" has been changed on disk: {", ".join(names)}',
        hint=f"make it again: runspec run {spec} --force {step}",
    )


def hint_for(number: int | None) -> str | None:
    """What helps against this error number, whatever was tried; None where nothing more is known."""
    if number in IN_THE_WAY:
        return WAY
    if number in TOO_MANY_FILES:
        return OPEN_FILES
    return {errno.EIO: DEVICE, errno.EFBIG: FILE_SIZE, errno.ENOSPC: "free some disk space"}.get(number or 0)


def _folder(file: Path) -> Path:
    """The project's ``.runspec`` for what is in it, else the file itself."""
    parts = file.parts
    return Path(*parts[: parts.index(".runspec") + 1]) if ".runspec" in parts else file
