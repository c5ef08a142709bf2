"""A file that the platform keeps: an output, a file of a dataset or of a model.

>>> stored("a/b.txt", "hi").size
2
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

Content: TypeAlias = bytes | str | Path


@dataclass(frozen=True)
class StoredFile:
    """Name (with folders), where the bytes are, and when it was written."""

    name: str
    content: bytes | Path
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        """All of it."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @cached_property
    def md5(self) -> bytes:
        """What object stores send along."""
        return hashlib.md5(self.read()).digest()


def stored(name: str, content: Content, modified: datetime | None = None) -> StoredFile:
    """A stored file of bytes, of text, or of a file on disk."""
    raw = content.encode() if isinstance(content, str) else content
    return StoredFile(name, raw, modified or datetime.now(UTC))


Files: TypeAlias = Mapping[str, Content]


def stored_files(files: Files, modified: datetime | None = None) -> list[StoredFile]:
    """Sorted by name, as the platform lists them."""
    return [stored(name, content, modified) for name, content in sorted(files.items())]


def files_below(folder: Path, modified: datetime | None = None) -> list[StoredFile]:
    """Every regular file below a folder, links left out."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [stored(path.relative_to(folder).as_posix(), path, modified) for path in found]
