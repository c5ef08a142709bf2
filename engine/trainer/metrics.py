"""metrics.jsonl: one row a train step, no gaps, no repeats, whatever happened to the process.

Rows are on disk before the checkpoint of their step is published; after a restore, rows beyond the restored step
are taken out, since those steps are done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.canonical import jsonl_bytes, write_atomic

MetricsRow = Mapping[str, Any]


class MetricsFile:
    """Append-only but for the cut at a restore."""

    def __init__(self, path: Path, *, restored_step: int) -> None:
        self._path = path
        kept = [row for row in _read(path) if row["train_step"] <= restored_step]
        self.rows: list[MetricsRow] = kept
        write_atomic(path, jsonl_bytes(kept))
        self._stream = path.open("ab")

    def append(self, row: MetricsRow) -> None:
        """Write one row; :meth:`sync` makes it last."""
        self.rows.append(row)
        self._stream.write(jsonl_bytes([row]))

    def sync(self) -> None:
        """All rows so far are on disk when this returns."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def complete_to(self, train_step: int) -> bool:
        """True where the rows are exactly those of train steps 1 to ``train_step``."""
        return [row["train_step"] for row in self.rows] == list(range(1, train_step + 1))

    def path_bytes(self) -> bytes:
        """The whole file."""
        return self._path.read_bytes()

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._stream.close()


def _read(path: Path) -> list[dict[str, Any]]:
    rows = []
    data = path.read_bytes() if path.is_file() else b""
    for line in data.split(b"\n"):
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the torn last line of a killed process, and the nothing after the last newline
    return rows
