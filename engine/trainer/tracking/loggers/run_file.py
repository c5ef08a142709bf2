"""What two processes share of a tool's run: its id in the tool, and the last train step sent.

    run = RunFile(folder / "wandb.json")
    run.id, run.sent          # an id drawn once; 0
    run.record_sent(7)

Written without fsync, which would cost time: it must survive the end of the process, not a crash of the machine.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from engine.canonical import jsonl_bytes, sealed, unsealed

SEAL = "file_sha256"


class RunFile:
    """Reads the file, or draws the id of a new run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = _read(path)
        self.is_new = "id" not in stored
        self.id = str(stored.get("id") or uuid.uuid4().hex[:12])
        self.sent = int(stored.get("sent", 0))
        self._write()

    def rename(self, run_id: str) -> None:
        """Take over the id that the tool gave the run."""
        self.id = run_id
        self._write()

    def record_sent(self, train_step: int) -> None:
        """All train steps up to this one have been sent."""
        self.sent = train_step
        self._write()

    def _write(self) -> None:
        staging = self._path.with_suffix(".tmp")
        staging.write_bytes(jsonl_bytes([sealed({"id": self.id, "sent": self.sent}, SEAL)]))
        staging.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return unsealed(path.read_bytes(), SEAL) or {}  # not sealed: a file that a crash of the machine left empty
    except FileNotFoundError:  # a new run
        return {}
