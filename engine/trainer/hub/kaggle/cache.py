"""kagglehub's cache, in its layout and with its markers, shared both ways; with digests of the engine beside them.

    models/google/gemma/transformers/2b/3/config.json
    models/google/gemma/transformers/2b/3.complete                       kagglehub's: every file is there
    models/google/gemma/transformers/2b/.complete/3/config.json.complete kagglehub's: this file is there
    models/google/gemma/transformers/2b/3.runspec.json                   ours: name -> bytes and SHA-256 of each file that is read
    models/google/gemma/transformers/2b/.runspec/3/config.json           ours: the first bytes of a file that is on its way

A file counts where its marker, or that of the version, says that it is complete. One whose bytes have changed since the engine fetched it is fetched
again; what kagglehub has put there has no digest to be compared with, and is taken as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import digest_file, pretty_json, write_atomic
from engine.protocol.kaggle_models import MARKER_FOLDER, complete_marker, digests_file
from engine.trainer.hub.client import RemoteFile


@dataclass(frozen=True, slots=True)
class KaggleCache:
    """The folder of one version (:class:`engine.trainer.hub.download.FileCache`)."""

    folder: Path

    def is_stored(self, file: RemoteFile) -> bool:
        """Whether it is there, complete."""
        return self.has(file.name)

    def partial(self, file: RemoteFile) -> Path:
        """What has arrived of it."""
        return self._parts / f"{file.name}.incomplete"

    @property
    def archive(self) -> Path:
        """The archive of all files, complete, before it is unpacked."""
        return self._parts / "archive"

    @property
    def _parts(self) -> Path:
        return self.folder.parent / ".runspec" / self.folder.name

    def publish(self, file: RemoteFile) -> None:
        """Give a complete file its name, and kagglehub's marker."""
        target = self.folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.partial(file), target)
        marker = self._marker(file.name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def link(self, file: RemoteFile) -> None:
        """Nothing: the file has its name already."""

    def has(self, name: str) -> bool:
        """Whether the file is there and complete: kagglehub gives a file its name before its bytes, and a marker after."""
        return (self.folder / name).is_file() and (self._marker(name).exists() or complete_marker(self.folder).exists())

    def _marker(self, name: str) -> Path:
        """kagglehub's, of one file."""
        return self.folder.parent / MARKER_FOLDER / self.folder.name / f"{name}.complete"

    def note_digests(self, files: Iterable[str], *, are_all: bool) -> None:
        """Write down the files that are read. ``are_all``: the version has no others, so that kagglehub need fetch none either."""
        write_atomic(digests_file(self.folder), pretty_json({name: self._row(name) for name in sorted(files)}))
        if are_all:
            complete_marker(self.folder).touch()
        shutil.rmtree(self._parts, ignore_errors=True)

    def _row(self, name: str) -> dict[str, object]:
        path = self.folder / name
        return {"bytes": path.stat().st_size, "sha256": digest_file(path)}

    def noted(self) -> dict[str, str] | None:
        """Name -> SHA-256, as :meth:`note_digests` wrote it; None where the engine has fetched nothing here."""
        try:
            rows = json.loads(digests_file(self.folder).read_bytes())
            return {str(name): str(row["sha256"]) for name, row in rows.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Delete files whose bytes have changed, and what says that they and the version are complete."""
        files = [path for name in names for path in (self.folder / name, self._marker(name))]
        for path in (digests_file(self.folder), complete_marker(self.folder), *files):
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where the archive of a version goes until it is unpacked (:class:`engine.trainer.hub.download.FileCache`)."""

    cache: KaggleCache

    def is_stored(self, _: RemoteFile) -> bool:
        """Whether it is there, complete."""
        return self.cache.archive.is_file()

    def partial(self, _: RemoteFile) -> Path:
        """What has arrived of it."""
        return self.cache.archive.with_suffix(".incomplete")

    def publish(self, file: RemoteFile) -> None:
        """Give the complete archive its name."""
        os.replace(self.partial(file), self.cache.archive)

    def link(self, file: RemoteFile) -> None:
        """Nothing: it has its name already."""
