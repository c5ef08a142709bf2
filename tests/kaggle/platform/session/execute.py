"""Run a notebook as a batch session does: a real kernel by nbclient, the log as JSON lines while it runs.

    python -P execute.py NOTEBOOK LOG EXECUTED

Exit code 0 where every cell ran, 1 where one raised (its traceback is in the log). Started as a file: nothing of this
repository is on the path of the process or of its kernel.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError


class Logged(NotebookClient):
    """A client that writes what cells print to a file, piece by piece."""

    def __init__(self, notebook: Any, log: Path, **options: Any) -> None:
        super().__init__(notebook, **options)
        self._began = time.monotonic()
        self._log = log

    def write(self, stream: str, text: str) -> None:
        """One entry."""
        entry = {"stream_name": stream, "time": round(time.monotonic() - self._began, 3), "data": text}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Every message of the kernel comes by here."""
        if msg["msg_type"] == "stream":
            self.write(msg["content"]["name"], msg["content"]["text"])
        if msg["msg_type"] == "error":
            self.write("stderr", "\n".join(msg["content"]["traceback"]) + "\n")
        return super().process_message(msg, cell, cell_index)


def main(notebook: Path, log: Path, executed: Path) -> int:
    """Run all cells."""
    content = nbformat.read(notebook, as_version=4)
    client = Logged(
        content, log, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(Path.cwd())}}
    )
    try:
        client.execute()
    except CellExecutionError:
        return 1
    except DeadKernelError as error:
        client.write("stderr", f"{error}\n")
        return 1
    finally:
        nbformat.write(content, executed)
    return 0


if __name__ == "__main__":
    sys.exit(main(*(Path(word) for word in sys.argv[1:])))
