"""The files of a model folder that a reader has, by their digests: to hold beside those that the evidence records (V31).

In: a folder. Out: :class:`Weights`. Files of git are left out, as OpenSSF's model signing leaves them out; every other file counts. Only the
standard library is used.

    read_weights(Path("downloads/model")).files["config.json"]
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.canonical import digest_file
from engine.errors import InputInvalid
from engine.os_errors import hint_for

OF_GIT = (".git", ".gitattributes", ".github", ".gitignore")  # what model signing ignores too
NAME_IT = "name the folder that the run exported: model/ of its checkpoint, with config.json and the weights"


class KeyIsEncrypted(Exception):
    """The key needs a passphrase."""


class OtherFiles(Exception):
    """The signature is by this key, and over another folder."""


@dataclass(frozen=True, slots=True)
class Weights:
    """``files``: relative path -> SHA-256; ``signature``: what is known of a signature over them, None where none is asked for."""

    folder: str
    files: Mapping[str, str]
    signature: tuple[Literal["pass", "fail", "n/a"], str] | None = None


def read_weights(folder: Path) -> Weights:
    """Read every byte. Raises U176: no folder, empty, a link to a folder in it, or what cannot be read."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputInvalid("U176", f"{folder} {what}", hint=NAME_IT)
    try:
        files = {path.relative_to(folder).as_posix(): digest_file(path) for path in sorted(_files(folder))}
    except OSError as error:
        raise InputInvalid(
            "U176",
            f"{error.filename or folder} cannot be read: {error.strerror or error}",
            hint=hint_for(error.errno) or NAME_IT,
        ) from error
    if not files:
        raise InputInvalid("U176", f"{folder} has no file", hint=NAME_IT)
    return Weights(str(folder), files)


def _files(folder: Path) -> Iterator[Path]:
    """Raises OSError for a folder below that cannot be read, and U176 for what would be left out: links to folders, pipes."""

    def refuse(error: OSError) -> None:
        raise error

    for below, folders, names in os.walk(folder, onerror=refuse):
        here = Path(below)
        if here == folder:
            folders[:] = [name for name in folders if name not in OF_GIT]
            names = [name for name in names if name not in OF_GIT]  # noqa: PLW2901 - those of git are not walked
        for path in [here / name for name in folders if (here / name).is_symlink()]:
            raise InputInvalid("U176", f"{path} is a link to a folder", hint="name a folder that has its files itself")
        for path in (here / name for name in names):
            if not path.is_file():
                raise InputInvalid("U176", f"{path} is not a file", hint="name a folder of files")
            yield path
