"""SHA-256 of large files, remembered: it saves time, is never needed and never trusted for what it cannot know.

In: a path, the store. Out: the digest of the file's content. ``.runspec/cache/digests.json`` keeps those of large files by
path, with size, inode and time of the last change (ctime, which a program cannot set back as it can the mtime). An entry is
made only where the file has not changed while it was read, nor within SETTLED_SECONDS before: within one tick of the clock a
second change would not show. The file is sealed (engine.canonical.sealed); one that is damaged, unreadable or of another
shape is as good as none, and one that cannot be written is not kept.

    remembered_digest(Path("weights.safetensors"), Store(root).cache)
"""

from __future__ import annotations

import errno
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from engine.canonical import JsonObject, digest_file, pretty_json, sealed, unsealed, write_atomic

CACHE_FILE, SEAL = "digests.json", "cache_sha256"
CACHE_FROM_BYTES = 8 << 20
SETTLED_SECONDS = 2.0  # the coarsest clock of a file system in use (FAT's)
Marks: TypeAlias = list[int]  # device, inode, size, ctime in ns


def remembered_digest(path: Path, cache: Path) -> str:
    """The digest; read from the file unless its entry is known to be of this content. Raises OSError of ``path`` only."""
    before = _marks(path)
    if before[2] < CACHE_FROM_BYTES:
        return digest_file(path)
    key = str(path.absolute())
    entry = _entries(cache).get(key)
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == before:
        return str(entry[1])
    started = time.time()
    digest = digest_file(path)
    if _marks(path) == before and started - before[3] / 1e9 > SETTLED_SECONDS:
        _remember(cache, key, [before, digest])
    return digest


def _marks(path: Path) -> Marks:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return [found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns]


def _entries(cache: Path) -> JsonObject:
    try:
        values = unsealed((cache / CACHE_FILE).read_bytes(), SEAL)
    except OSError:
        return {}
    entries = (values or {}).get("files")
    return entries if isinstance(entries, dict) else {}


def _remember(cache: Path, key: str, entry: list[object]) -> None:
    with suppress(OSError):  # read-only, full: the digest is computed again next time
        entries = {name: kept for name, kept in _entries(cache).items() if Path(name).exists()}
        write_atomic(cache / CACHE_FILE, pretty_json(sealed({"files": {**entries, key: entry}}, SEAL)))
