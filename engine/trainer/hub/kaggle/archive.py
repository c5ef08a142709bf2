"""The archive of all files of a version: only the wanted ones are taken out of it, each under its own name.

In: a tar (compressed or not) or a zip. Out: the wanted files, written where ``part`` says and handed to ``publish``. No name in the archive is
used as a path: an entry counts where its name is one of those that Kaggle lists.
"""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def take_out(
    archive: Path, wanted: Collection[str], part: Callable[[str], Path], publish: Callable[[str], None]
) -> str | None:
    """Take the wanted files out; what is wrong with the archive, or None. Raises OSError where they cannot be written."""
    missing = set(wanted)
    try:
        for entry, stream in _entries(archive):
            name = entry.removeprefix("./")
            if name in missing:
                part(name).parent.mkdir(parents=True, exist_ok=True)
                with part(name).open("wb") as target:
                    shutil.copyfileobj(stream, target, 1 << 20)
                publish(name)
                missing.discard(name)
    except BROKEN as error:
        return f"it is damaged ({type(error).__name__})"
    return f"it lacks {len(missing)} of the listed files, {min(missing)} among them" if missing else None


def _entries(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, bytes) of every regular file in it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    with packed.open(entry) as stream:
                        yield entry.filename, stream
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isreg() else None
            if content is not None:
                with closing(content):
                    yield member.name, content
