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
from engine.os_errors import NO_PERMISSION, hint_for


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


def changed_on_disk(type_: str, step: str, names: Sequence[str], spec: str) -> RunFailed:
    """R105: files of an artifact are not what its step published. ``spec``: the run-spec, as a person types it."""
    return RunFailed(
        "R105",
        f'the {type_} made by step "{step}" has been changed on disk: {", ".join(names)}',
        hint=f"make it again: runspec run {spec} --force {step}",
    )


def _folder(file: Path) -> Path:
    """The project's ``.runspec`` for what is in it, else the file itself."""
    parts = file.parts
    return Path(*parts[: parts.index(".runspec") + 1]) if ".runspec" in parts else file
