"""The hub's cache on disk, in the layout that huggingface_hub documents and shares between programs.

    models--google--gemma-2b/
      blobs/<digest>                        a file's bytes, named by the hub's own digest of them
      blobs/<digest>.runspec.incomplete     what has arrived so far of one (ours)
      refs/flax                             the commit of a branch when it was last asked for
      snapshots/<commit>/config.json        a link to the blob
      .runspec/<digest>                     size and time of a blob whose digest was checked (ours)

Nothing unchecked is ever visible under ``snapshots`` by our doing; what another program has put there is checked
once, and again when it has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from engine.canonical import write_atomic
from engine.trainer.hub.client import COMMIT, RemoteFile, Repository
from engine.trainer.hub.errors import disk_full

SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
PIECE = 1 << 20
DEFAULT_BRANCH = "main"


class Digest:
    """The digest that an etag stands for, fed piece by piece. Raises ValueError for an etag that is none."""

    def __init__(self, file: RemoteFile) -> None:
        if SHA256.fullmatch(file.etag):
            self._hash = hashlib.sha256()
        elif GIT_BLOB.fullmatch(file.etag):
            # What git calls a blob: the kind and the size stand before the bytes.
            self._hash = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        else:
            raise ValueError("the hub names no digest that could be checked")

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._hash.update(piece)

    def text(self) -> str:
        """Hexadecimal."""
        return self._hash.hexdigest()


def digest_of(path: Path, file: RemoteFile) -> str:
    """The digest of a file's bytes, of the kind that the hub lists."""
    digest = Digest(file)
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.add(piece)
    return digest.text()


def leads_astray(revision: str | None) -> bool:
    """Whether a revision, read as a path, would lead out of the folder of revisions: no branch is named so."""
    return revision is not None and bool({"", ".", ".."} & set(revision.split("/")))


class HubCache:
    """One repository's part of a cache folder."""

    def __init__(self, root: Path, repository: Repository) -> None:
        self._repository = repository
        self.folder = root / "--".join([f"{repository.kind}s", *repository.id.split("/")])

    def snapshot(self, commit: str) -> Path:
        """The folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def blob(self, file: RemoteFile) -> Path:
        """Where the bytes lie."""
        return self.folder / "blobs" / file.etag

    def partial(self, file: RemoteFile) -> Path:
        """Where they are gathered."""
        return self.folder / "blobs" / f"{file.etag}.runspec.incomplete"

    def commit_of(self, revision: str | None) -> str | None:
        """The commit that a revision stood for when it was last fetched."""
        if revision is not None and COMMIT.fullmatch(revision):
            return revision
        try:
            text = (self.folder / "refs" / (revision or DEFAULT_BRANCH)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if COMMIT.fullmatch(text) else None

    def note_revision(self, revision: str | None, commit: str) -> None:
        """Remember for offline days what the revision stood for."""
        if revision != commit and self.commit_of(revision) != commit:
            with suppress(OSError):  # as above
                write_atomic(self.folder / "refs" / (revision or DEFAULT_BRANCH), commit)

    def has(self, commit: str, file: RemoteFile, found_bad: Callable[[RemoteFile], None]) -> bool:
        """Whether the file is there and good; a bad one is removed and told to ``found_bad``."""
        link = self.snapshot(commit) / file.name
        for path in (link, self.blob(file)):
            if not path.exists():
                continue
            if self._is_good(path, file):
                if path != link:
                    self.link(commit, file)
                return True
            found_bad(file)
            self.remove(path, file)
        return False

    def damaged(self, commit: str, names: Iterable[str]) -> list[str]:
        """Which of these files of a commit are not what they were, asked without the hub: a blob is named by its digest.

        Where the disk knows no links (:meth:`link`) the digest of a file is not known, and nothing is said of it.
        """
        folder = self.snapshot(commit)
        known = [(folder / name, (folder / name).readlink().name) for name in names if (folder / name).is_symlink()]
        return [
            path.name
            for path, etag in known
            if (SHA256.fullmatch(etag) or GIT_BLOB.fullmatch(etag))
            and not self._is_good(path, RemoteFile(path.name, path.stat().st_size, etag))
        ]

    def _is_good(self, path: Path, file: RemoteFile) -> bool:
        status, mark = path.stat(), self.folder / ".runspec" / file.etag
        if status.st_size != file.size:
            return False
        state = f"{status.st_size} {status.st_mtime_ns}"
        if mark.is_file() and mark.read_text(encoding="utf-8") == state:
            return True
        if digest_of(path, file) != file.etag:
            return False
        self._mark(path, file)
        return True

    def _mark(self, path: Path, file: RemoteFile) -> None:
        status, mark = path.stat(), self.folder / ".runspec" / file.etag
        with suppress(OSError):  # a cache that can only be read serves all the same, and is checked each time
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"{status.st_size} {status.st_mtime_ns}", encoding="utf-8")  # torn, it means nothing

    def remove(self, path: Path, file: RemoteFile) -> None:
        """A bad file goes, its blob and its mark with it."""
        for one in (path, self.blob(file), self.folder / ".runspec" / file.etag):
            one.unlink(missing_ok=True)

    def publish(self, commit: str, file: RemoteFile) -> None:
        """Partial -> blob -> link: the file has been checked and becomes visible."""
        blob = self.blob(file)
        os.replace(self.partial(file), blob)  # lost in a power failure, the file is fetched again
        self._mark(blob, file)
        self.link(commit, file)

    def link(self, commit: str, file: RemoteFile) -> None:
        """Show the blob under its name in the commit's folder; a copy where the disk knows no links."""
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
        """Raises RunFailed M407 where the disk cannot take what is still to come."""
        there = sum(path.stat().st_size for path in map(self.partial, missing) if path.is_file())
        need = sum(file.size for file in missing) - there
        folder = next(path for path in (self.folder, *self.folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(folder).free
        if need > free:
            raise disk_full(self._repository, need, free, str(folder))
