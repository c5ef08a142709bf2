"""What is remembered of a tool's run between two processes: its id there, and how far it was sent.

    run = RunFile(folder / "wandb.json")
    run.id, run.sent          # an id drawn once; 0
    run.mark(7)

Written without a sync: it has to survive the end of the process, not that of the machine, and costs no time so.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any


class RunFile:
    """``run_id``: the id given by the tool, for a new run; else one is drawn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = _read(path)
        self.is_new = "id" not in found
        self.id = str(found.get("id") or uuid.uuid4().hex[:12])
        self.sent = int(found.get("sent", 0))
        self._write()

    def rename(self, run_id: str) -> None:
        """The tool gave the run another id."""
        self.id = run_id
        self._write()

    def mark(self, train_step: int) -> None:
        """The tool has been given everything up to this train step."""
        self.sent = train_step
        self._write()

    def _write(self) -> None:
        staging = self._path.with_suffix(".tmp")
        staging.write_text(json.dumps({"id": self.id, "sent": self.sent}), encoding="utf-8")
        staging.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a new run, or a file that a crash of the machine left empty
        return {}
    return found if isinstance(found, dict) else {}
