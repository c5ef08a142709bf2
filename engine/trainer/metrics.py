"""metrics.jsonl: one row a train step, no gaps, no repeats, whatever happened to the process.

Rows are on disk before the checkpoint of their step is published, and the checkpoint remembers how long the file was
and its digest (:meth:`MetricsFile.notes`). After a restore the file is cut back to just that: the steps beyond are
done again. The same rows lie in a second file, ``metrics.copy.jsonl``: where one of the two is damaged the other
serves. If neither is what the checkpoint remembers, the checkpoint is useless, and :func:`mismatch` says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.canonical import digest_bytes, jsonl_bytes, write_atomic

MetricsRow = Mapping[str, Any]


class MetricsFile:
    """Append-only but for the cut at a restore. ``notes``: those of the restored checkpoint, None for a fresh start.

    ``recovered``: the rows are those of the copy.
    """

    def __init__(self, path: Path, notes: Mapping[str, Any] | None = None) -> None:
        self._path = path
        found = None if notes is None else _kept(path, notes)
        self.recovered = notes is not None and found is None
        kept = b"" if notes is None else found or _kept(_copy_of(path), notes) or b""
        self.rows: list[MetricsRow] = [json.loads(line) for line in kept.splitlines()]
        self._size, self._hasher = len(kept), hashlib.sha256(kept)
        for one in (path, _copy_of(path)):
            write_atomic(one, kept)
        self._streams = [one.open("ab") for one in (path, _copy_of(path))]

    def append(self, row: MetricsRow) -> None:
        """Write one row; :meth:`sync` makes it last."""
        line = jsonl_bytes([row])
        self.rows.append(row)
        for stream in self._streams:
            stream.write(line)
        self._size += len(line)
        self._hasher.update(line)

    def sync(self) -> dict[str, Any]:
        """All rows so far are on disk when this returns; what a checkpoint has to remember of them."""
        for stream in self._streams:
            stream.flush()
            os.fsync(stream.fileno())
        return {"metrics_bytes": self._size, "metrics_sha256": self._hasher.hexdigest()}

    def complete_to(self, train_step: int) -> bool:
        """True where the rows are exactly those of train steps 1 to ``train_step``."""
        return [row["train_step"] for row in self.rows] == list(range(1, train_step + 1))

    def path_bytes(self) -> bytes:
        """The whole file."""
        return self._path.read_bytes()

    def close(self) -> None:
        """Close; rows that were not synced may be lost, and no checkpoint counts on them."""
        for stream in self._streams:
            stream.close()


def mismatch(path: Path, notes: Mapping[str, Any]) -> str | None:
    """Why neither the file nor its copy is the one these notes were made of, or None."""
    if _kept(path, notes) is not None or _kept(_copy_of(path), notes) is not None:
        return None
    return f"{path.name} and its copy no longer have the rows of the train steps before it"


def _copy_of(path: Path) -> Path:
    return path.with_suffix(f".copy{path.suffix}")


def _kept(path: Path, notes: Mapping[str, Any]) -> bytes | None:
    """The rows that the notes were made of; None where the file does not have them."""
    data = path.read_bytes() if path.is_file() else b""
    kept = data[: notes["metrics_bytes"]]
    is_whole = len(kept) == notes["metrics_bytes"] and digest_bytes(kept) == notes["metrics_sha256"]
    return kept if is_whole else None
