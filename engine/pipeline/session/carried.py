"""The form of a carry-over: ``session.json``, which vouches for itself and for every file beside it.

In: a folder. Out: :class:`SessionFile`, whose bytes are what was written, or InputInvalid R116. The payload is in a folder of its own, which
``session.json`` names; it is replaced last, by one rename, so that the folder is what the last session left or what the one before it left.

    DIR/session.json           {session_sha256, schema_version, engine, run_version, spec_sha256, overrides, state, number,
                                parent_sha256, sessions, steps, begun, next, payload, files: {path: {sha256, bytes}}}
    DIR/carried-1a2b3c4d/…     journal.jsonl, store/<type>/<fingerprint>/…, work/…
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.canonical import JsonMapping, JsonObject, digest_json, unsealed
from engine.errors import InputInvalid

FILE, SEAL, PAYLOAD = "session.json", "session_sha256", "carried-"
VERSION = 1
JOURNAL, STORE, WORK = "journal.jsonl", "store", "work"
CHUNK = 1 << 20
_SHAPE: JsonMapping = {
    "schema_version": int, "engine": str, "run_version": str, "spec_sha256": str, "overrides": dict, "state": str, "number": int,
    "sessions": list, "steps": list, "payload": str, "files": dict,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SessionFile:
    """``values`` of session.json, its ``digest``, and the folder that it lies in."""

    folder: Path
    values: JsonObject
    digest: str

    def source(self, name: str) -> Path:
        """A file of the payload."""
        return self.folder / str(self.values["payload"]) / name


def read_session(folder: Path) -> SessionFile:
    """Raises InputInvalid R116 where there is none, or a byte of it is not what was written."""
    path = folder / FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise damaged(folder, f"{FILE} cannot be read: {error.strerror or error}") from error
    values = unsealed(data, SEAL)
    if values is None:
        raise damaged(folder, f"{FILE} is not what was written")
    if values.get("schema_version") != VERSION:
        raise damaged(
            folder, f"{FILE} has schema_version {values.get('schema_version')!r:.20}; this engine reads {VERSION}"
        )
    for key, kind in _SHAPE.items():
        if not isinstance(values.get(key), kind):
            raise damaged(folder, f"{FILE} has no {key}")
    for name in (values["payload"], *values["files"]):
        if not _is_inside(name):
            raise damaged(folder, f"{FILE} names {name!a:.80}, which is no file of the folder")
    return SessionFile(folder, values, digest_json(values))


def _is_inside(name: Any) -> bool:
    parts = name.split("/") if isinstance(name, str) else [""]
    return all(part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in parts)


def damaged(folder: Path, what: str) -> InputInvalid:
    """R116."""
    return InputInvalid(
        "R116",
        f"{folder} is no carry-over that a run could continue from: {what}",
        hint="name the --session-out folder of the last session, as that session left it; copy it again if it was copied",
    )


def copy_file(source: Path, target: Path) -> tuple[str, int]:
    """Copy the content; returns (SHA-256, bytes) of what was copied. Raises OSError."""
    hasher, count = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as write:
        while chunk := read.read(CHUNK):
            hasher.update(chunk)
            write.write(chunk)
            count += len(chunk)
        write.flush()
        os.fsync(write.fileno())
    return hasher.hexdigest(), count
