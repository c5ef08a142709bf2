"""What a platform keeps of a run: the output of a notebook version, downloaded by the reader, with ``witness.json`` in it.

In: the folder of the download (``kaggle kernels output OWNER/NAME -p FOLDER``, or the page's own button). Out: a :class:`Witness`. Only files
of that folder are read. What it is worth rests on the reader's having got it from the platform itself: a folder that came with the
package would be one more claim of the same author, so nothing in the package counts as a witness.

``witness.json``: {schema_version: 1, platform, notebook_url, notebook_version, nonce, run_version, digests: {file: SHA-256}, sessions:
[{first_train_step, last_train_step, checkpoint_sha256, parent_sha256}]}. The run writes it into its output; the nonce was chosen
before the run, and stands in the platform's log too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.evidence.screen import refusal
from engine.os_errors import hint_for

FILE = "witness.json"
VERSION = 1
MAX_LOG_BYTES, MAX_LOGS = 16 << 20, 20
HOW = "download the output of the notebook version into a folder, and name that: --witness FOLDER"


@dataclass(frozen=True, slots=True)
class Witness:
    """``document``: witness.json; ``logs``: the platform's logs beside it."""

    document: JsonObject
    logs: Sequence[bytes]

    def is_logged(self, nonce: str) -> bool:
        """Whether a log has the nonce."""
        return any(nonce.encode() in log for log in self.logs)


def read_witness(folder: Path) -> Witness:
    """Raises InputInvalid (U155) where the folder is no download of a run's output."""
    path = folder / FILE
    try:
        with path.open("rb") as stream:
            data = stream.read((1 << 20) + 1)
        logs = [_head(log) for log in sorted(folder.glob("*.log"))[:MAX_LOGS] if log.is_file()]
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputInvalid("U155", f"{path} cannot be read: {reason}", hint=hint_for(error.errno) or HOW) from error
    return Witness(_document(path, data), logs)


def _head(log: Path) -> bytes:
    with log.open("rb") as stream:
        return stream.read(MAX_LOG_BYTES)


def _document(path: Path, data: bytes) -> JsonObject:
    problem = "it is larger than 1 MiB" if len(data) > 1 << 20 else refusal(FILE, data)
    try:
        value = json.loads(data) if problem is None else None
    except (ValueError, RecursionError) as error:
        problem = f"it is not JSON: {error}"
    if problem is None and (not isinstance(value, dict) or value.get("schema_version") != VERSION):
        problem = f"it is no witness of schema_version {VERSION}"
    if problem is not None or not isinstance(value, dict):
        raise InputInvalid("U155", f"{path} cannot be used: {problem}", hint=HOW)
    return value
