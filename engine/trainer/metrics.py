"""metrics.jsonl: one row a train step, no gaps, no repeats, whatever happened to the process.

    metrics = MetricsFile(path)              # or MetricsFile(path, notes of the restored checkpoint)
    metrics.append({"train_step": 1, "loss": 2.5})
    notes = metrics.sync()                   # {"metrics_bytes": …, "metrics_sha256": …}, for the checkpoint

Rows are on disk before the checkpoint of their step is published, and the checkpoint records the file's length and
digest (:meth:`MetricsFile.sync`). A restore cuts the file back to that length: the steps beyond it are repeated. A second
file, ``metrics.copy.jsonl``, has the same rows; where one of the two is damaged the other is used. If neither matches
what the checkpoint recorded, the checkpoint cannot be used, and :func:`mismatch` says so.
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
Notes = Mapping[str, Any]  # what a checkpoint records of the file: "metrics_bytes", "metrics_sha256"; other keys too


class MetricsFile:
    """Append-only but for the cut at a restore. ``notes``: those of the restored checkpoint, None for a fresh start.

    ``recovered``: the rows were read from the copy.
    """

    def __init__(self, path: Path, notes: Notes | None = None) -> None:
        self._path = path
        original = None if notes is None else _recorded(path, notes)
        self.recovered = notes is not None and original is None
        recorded = b"" if notes is None else original or _recorded(_copy_of(path), notes) or b""
        self.rows: list[MetricsRow] = [json.loads(line) for line in recorded.splitlines()]
        self._size, self._hasher = len(recorded), hashlib.sha256(recorded)
        for file in (path, _copy_of(path)):
            write_atomic(file, recorded)
        self._streams = [file.open("ab") for file in (path, _copy_of(path))]

    def append(self, row: MetricsRow) -> None:
        """Write one row; it is durable only after :meth:`sync`."""
        line = jsonl_bytes([row])
        self.rows.append(row)
        for stream in self._streams:
            stream.write(line)
        self._size += len(line)
        self._hasher.update(line)

    def sync(self) -> dict[str, int | str]:
        """Flush all rows to disk -> the notes that a checkpoint records about them."""
        for stream in self._streams:
            stream.flush()
            os.fsync(stream.fileno())
        return {"metrics_bytes": self._size, "metrics_sha256": self._hasher.hexdigest()}

    def complete_to(self, train_step: int) -> bool:
        """True where the rows are exactly those of train steps 1 to ``train_step``."""
        return [row["train_step"] for row in self.rows] == list(range(1, train_step + 1))

    def path_bytes(self) -> bytes:
        """The file's content."""
        return self._path.read_bytes()

    def close(self) -> None:
        """Close; rows that were not synced may be lost, and no checkpoint depends on them."""
        for stream in self._streams:
            stream.close()


def mismatch(path: Path, notes: Notes) -> str | None:
    """Why neither the file nor its copy matches these notes, or None."""
    if _recorded(path, notes) is not None or _recorded(_copy_of(path), notes) is not None:
        return None
    return f"{path.name} and its copy no longer have the rows of the train steps before it"


def _copy_of(path: Path) -> Path:
    return path.with_suffix(f".copy{path.suffix}")


def _recorded(path: Path, notes: Notes) -> bytes | None:
    """The rows that the notes were made of; None where the file does not have them."""
    data = path.read_bytes() if path.is_file() else b""
    rows = data[: notes["metrics_bytes"]]
    matches = len(rows) == notes["metrics_bytes"] and digest_bytes(rows) == notes["metrics_sha256"]
    return rows if matches else None
