"""Downloads one file from the hub, or from Kaggle, into its cache: resumable, checked, then made visible.

The bytes go into a partial file beside the blobs, under a kernel lock, so that two processes that want the same file
fetch it once. A broken connection is opened again where it broke (an HTTP range request); a killed process leaves the
partial file, and the next one continues it. The digest is computed while the bytes arrive; a file with another digest
than the hub lists is deleted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.locks import take
from engine.trainer.hub.cache import PIECE, Digest
from engine.trainer.hub.client import Body, RangeRefused, RemoteFile, Source
from engine.trainer.hub.errors import reason_of, status_of, wrong_digest, wrong_size
from engine.trainer.hub.progress import DownloadProgress
from engine.trainer.hub.retry_policy import POLL_SECONDS, RetryPolicy

UNSATISFIABLE_RANGE = 416


class FileCache(Protocol):
    """Where a file goes."""

    def is_stored(self, file: RemoteFile) -> bool:
        """Whether it is there, complete."""

    def partial(self, file: RemoteFile) -> Path:
        """The file with the bytes so far."""

    def publish(self, file: RemoteFile) -> None:
        """Make the checked partial file the stored one."""

    def link(self, file: RemoteFile) -> None:
        """Make a stored file visible under its name."""


@dataclass(frozen=True, slots=True)
class FileDownload:
    """Fetches files of one commit; ``open_file(name, start)`` is the request."""

    repository: Source
    open_file: Callable[[str, int], AbstractContextManager[Body]]
    cache: FileCache
    retry: RetryPolicy
    progress: DownloadProgress

    def run(self, file: RemoteFile) -> None:
        """Fetch one file. Raises RemoteRefused M406, Interrupted M408, and the client's exceptions."""
        self.progress.file(file.name)
        with self._partial(file) as descriptor:
            if descriptor is None:  # another process fetched it while this one waited
                self.cache.link(file)
                self.progress.at(file.size)
            else:
                self._fill(descriptor, file)
                os.fsync(descriptor)
                self.cache.publish(file)
        self.progress.end_of_file()

    @contextmanager
    def _partial(self, file: RemoteFile) -> Iterator[int | None]:
        """The partial file, locked; None if the file is stored by now."""
        path = self.cache.partial(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._lock(descriptor, path)
                if self.cache.is_stored(file):
                    path.unlink(missing_ok=True)
                    yield None
                    return
                # The previous holder of the lock may have renamed this very file to the blob: then open a new one.
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _lock(self, descriptor: int, path: Path) -> None:
        while not take(descriptor, path):
            self.retry.check_stop()
            time.sleep(POLL_SECONDS)

    def _fill(self, descriptor: int, file: RemoteFile) -> None:
        """Download the rest of the partial file and check it."""
        digest, offset = self._digest_so_far(descriptor, file)
        was_refused, furthest = False, offset
        while offset < file.size:
            problem: Exception = ConnectionError()  # the connection ended early without an error
            furthest = max(furthest, offset)
            try:
                digest, offset = self._receive(descriptor, file, digest, offset, furthest)
            except Exception as error:  # noqa: BLE001 - classified below; a final one is raised again
                problem = error
                digest, offset = self._digest_so_far(descriptor, file)
            if offset >= file.size:
                break
            if offset and _is_refused_range(problem):
                if was_refused:  # the server's file is shorter than the listed one
                    break
                was_refused = True
                digest, offset = self._start_over(descriptor, file)
                continue
            pause = self.retry.pause_after(problem)
            if pause is None:
                raise problem
            self.retry.wait(pause, reason_of(problem, self.repository.host))
        if digest.text() != file.etag or offset != file.size:
            self.cache.partial(file).unlink(missing_ok=True)
            raise wrong_digest(self.repository, file.name, file.etag, digest.text(), offset)

    def _start_over(self, descriptor: int, file: RemoteFile) -> tuple[Digest, int]:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self.progress.at(0)
        return Digest(file), 0

    def _digest_so_far(self, descriptor: int, file: RemoteFile) -> tuple[Digest, int]:
        """Of the partial file; the descriptor is then at its end."""
        digest, offset = Digest(file), os.lseek(descriptor, 0, os.SEEK_SET)
        while piece := os.read(descriptor, PIECE):
            digest.add(piece)
            offset += len(piece)
        if offset > file.size:  # not a part of this file
            return self._start_over(descriptor, file)
        self.progress.at(offset)
        return digest, offset

    def _receive(
        self, descriptor: int, file: RemoteFile, digest: Digest, offset: int, furthest: int
    ) -> tuple[Digest, int]:
        """One connection: from ``offset`` to wherever it breaks or ends. Beyond ``furthest`` it is progress, and all waits are there again."""
        with self.open_file(file.name, offset) as body:
            if body.total not in (None, file.size):
                raise wrong_size(self.repository, file.name, file.size, body.total or 0)
            if body.start != offset:  # the server does not support ranges and sends the full file
                digest, offset = self._start_over(descriptor, file)
            for chunk in body.chunks:
                self.retry.check_stop()
                _write(descriptor, chunk)
                digest.add(chunk)
                offset += len(chunk)
                self.progress.add(len(chunk))
                self.retry.used = 0 if offset > furthest else self.retry.used
                if offset > file.size:
                    break
        return digest, offset


def _is_refused_range(error: Exception) -> bool:
    return isinstance(error, RangeRefused) or status_of(error) == UNSATISFIABLE_RANGE


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
