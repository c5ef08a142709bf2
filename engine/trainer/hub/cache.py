"""The hub's cache on disk, in the layout that huggingface_hub documents and that programs share.

    models--google--gemma-2b/
      blobs/<digest>                        a file's bytes, named by the hub's own digest of them
      blobs/<digest>.runspec.incomplete     its first bytes, while it is downloaded (ours)
      refs/flax                             the commit of a branch when it was last resolved
      snapshots/<commit>/config.json        a link to the blob
      .runspec/<digest>                     size, inode and time of change of a blob whose digest was checked (ours)

We never make an unchecked file visible under ``snapshots``; what another program has put there is checked once, and
again when it has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import write_atomic
from engine.trainer.hub.client import COMMIT, RemoteFile, Repository, Source
from engine.trainer.hub.errors import disk_full

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
MD5 = re.compile(r"[0-9a-f]{32}")
PIECE = 1 << 20
DEFAULT_BRANCH = "main"


class Digest:
    """The kind of digest that an etag is, updated piece by piece; of none at all the size must do. Raises ValueError for any other etag."""

    def __init__(self, file: RemoteFile) -> None:
        self._is_none = not file.etag
        if self._is_none or SHA256.fullmatch(file.etag):
            self._hash = hashlib.sha256()
        elif GIT_BLOB.fullmatch(file.etag):
            # A git blob: its type and size come before the bytes.
            self._hash = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        elif MD5.fullmatch(file.etag):
            self._hash = hashlib.md5(usedforsecurity=False)
        else:
            raise ValueError("the hub names no digest that can be checked")

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._hash.update(piece)

    def text(self) -> str:
        """Hexadecimal; "" where there is none to compare with."""
        return "" if self._is_none else self._hash.hexdigest()


def digest_of(path: Path, file: RemoteFile) -> str:
    """The digest of a file's bytes, of the kind that the hub lists."""
    digest = Digest(file)
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.add(piece)
    return digest.text()


def is_path_outside(revision: str | None) -> bool:
    """Whether a revision, as a path, leads out of the folder of revisions: no branch has such a name."""
    return revision is not None and bool({"", ".", ".."} & set(revision.split("/")))


def _state(path: Path) -> bytes:
    """What differs after any change of a file: a program can set its mtime back, but not the time of the change itself."""
    status = path.stat()
    return f"{status.st_size} {status.st_ino} {status.st_ctime_ns}".encode()


class HubCache:
    """One repository's part of a cache folder."""

    def __init__(self, root: Path, repository: Repository) -> None:
        self._repository = repository
        self.folder = root / "--".join([f"{repository.kind}s", *repository.id.split("/")])

    def snapshot(self, commit: str) -> Path:
        """The folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def blob(self, file: RemoteFile) -> Path:
        """The file with the bytes."""
        return self.folder / "blobs" / file.etag

    def partial(self, file: RemoteFile) -> Path:
        """The file with the bytes so far, while they are downloaded."""
        return self.folder / "blobs" / f"{file.etag}.runspec.incomplete"

    def commit_of(self, revision: str | None) -> str | None:
        """The commit that a revision resolved to when it was last fetched."""
        if revision is not None and COMMIT.fullmatch(revision):
            return revision
        try:
            text = (self.folder / "refs" / (revision or DEFAULT_BRANCH)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if COMMIT.fullmatch(text) else None

    def note_revision(self, revision: str | None, commit: str) -> None:
        """Store what the revision resolved to, for offline use."""
        if revision != commit and self.commit_of(revision) != commit:
            with suppress(OSError):  # a read-only cache is still usable
                write_atomic(self.folder / "refs" / (revision or DEFAULT_BRANCH), commit)

    def has(self, commit: str, file: RemoteFile, on_bad: Callable[[RemoteFile], None]) -> bool:
        """Whether the file exists and is good; a bad one is deleted and reported to ``on_bad``."""
        link = self.snapshot(commit) / file.name
        for path in (link, self.blob(file)):
            if not path.exists():
                continue
            if self._is_good(path, file):
                if path != link:
                    self.link(commit, file)
                return True
            on_bad(file)
            self.remove(path, file)
        return False

    def damaged(self, commit: str, names: Iterable[str]) -> list[str]:
        """Which of these files of a commit are damaged, checked without the hub: a blob is named by its digest.

        On a file system without links (:meth:`link`) the digest of a file is unknown, and the file is not reported.
        """
        folder = self.snapshot(commit)
        linked = [(folder / name, (folder / name).readlink().name) for name in names if (folder / name).is_symlink()]
        return [
            path.name
            for path, etag in linked
            if (SHA256.fullmatch(etag) or GIT_BLOB.fullmatch(etag))
            and not self._is_good(path, RemoteFile(path.name, path.stat().st_size, etag))
        ]

    def _is_good(self, path: Path, file: RemoteFile) -> bool:
        if path.stat().st_size != file.size:
            return False
        with suppress(OSError):  # no note, or one that cannot be read: the bytes are checked
            if (self.folder / ".runspec" / file.etag).read_bytes() == _state(path):
                return True
        if digest_of(path, file) != file.etag:
            return False
        self._note_checked(path, file)
        return True

    def _note_checked(self, path: Path, file: RemoteFile) -> None:
        with suppress(OSError):  # a read-only cache is usable, and is checked each time
            write_atomic(self.folder / ".runspec" / file.etag, _state(path))

    def remove(self, path: Path, file: RemoteFile) -> None:
        """Delete a bad file, its blob and its note."""
        for stored in (path, self.blob(file), self.folder / ".runspec" / file.etag):
            stored.unlink(missing_ok=True)

    def publish(self, commit: str, file: RemoteFile) -> None:
        """Partial -> blob -> link: makes a checked file visible."""
        blob = self.blob(file)
        os.replace(self.partial(file), blob)  # lost in a power failure, the file is fetched again
        self._note_checked(blob, file)
        self.link(commit, file)

    def link(self, commit: str, file: RemoteFile) -> None:
        """Link the blob under its name in the commit's folder; copy it on a file system without links."""
        link = self.snapshot(commit) / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(self.blob(file), link.parent))
        except FileExistsError:
            return  # another process was quicker
        except OSError:
            shutil.copyfile(self.blob(file), link)

    def check_space(self, missing: Sequence[RemoteFile]) -> None:
        """Raises RunFailed M407 if the remaining bytes do not fit on the disk."""
        check_space(self._repository, self.folder, missing, self.partial)


@dataclass(frozen=True, slots=True)
class CommitFiles:
    """The cache as a download of one commit sees it (:class:`engine.trainer.hub.download.FileCache`)."""

    cache: HubCache
    commit: str

    def is_stored(self, file: RemoteFile) -> bool:
        """Whether its blob is there."""
        return self.cache.blob(file).is_file()

    def partial(self, file: RemoteFile) -> Path:
        """See :meth:`HubCache.partial`."""
        return self.cache.partial(file)

    def publish(self, file: RemoteFile) -> None:
        """See :meth:`HubCache.publish`."""
        self.cache.publish(self.commit, file)

    def link(self, file: RemoteFile) -> None:
        """See :meth:`HubCache.link`."""
        self.cache.link(self.commit, file)


def check_space(
    source: Source, folder: Path, missing: Sequence[RemoteFile], partial: Callable[[RemoteFile], Path]
) -> None:
    """Raises RunFailed M407 if the bytes that have not been received do not fit on the disk of ``folder``."""
    received = sum(path.stat().st_size for path in map(partial, missing) if path.is_file())
    need = sum(file.size for file in missing) - received
    folder = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise disk_full(source, need, free, str(folder))
