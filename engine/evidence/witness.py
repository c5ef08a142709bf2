"""What a platform keeps of a run: the output of a notebook version, downloaded by the reader, with ``witness.json`` in it.

A session leaves the file in its output (:func:`write_witness`); the reader fetches the version himself and brings the folder
(:func:`read_witness`). What it is worth rests on that: a folder that came with the package would be one more claim of the same author, so
nothing in the package counts as a witness.

In: the folder that ``runspec kaggle fetch OWNER/NAME/VERSION`` wrote: ``fetched.json`` (which version it asked the platform for, and whether
everybody can; ``api``, where it asked another server than Kaggle), ``session.log`` (the platform's log), ``output/``. Or a folder from elsewhere with ``witness.json`` in it, which does not say where it is from:
its digests are compared, and it gives no level. Out: a :class:`Witness`. Only files of that folder are read.

``witness.json``: {schema_version: 1, platform, run_version, nonce, digests: {file: SHA-256}}. The nonce was drawn before the run, and stands in the
platform's log too. Digested is what nothing renders: everything else follows from it (V25), so the files can be rendered again when the
platform's names for the run are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.canonical import JsonMapping, JsonObject, digest_bytes, pretty_json, write_atomic
from engine.errors import EvidenceIncomplete, InputInvalid
from engine.evidence.screen import refusal
from engine.os_errors import hint_for
from engine.protocol.kaggle_api import PRODUCTION

FILE, FETCHED, OUTPUT = "witness.json", "fetched.json", "output"
PLATFORM = "kaggle"
VERSION = 1
MAX_LOG_BYTES, MAX_LOGS = 16 << 20, 20
HOW = "fetch the notebook version yourself (`runspec kaggle fetch OWNER/NAME/VERSION`), and name that folder: --witness FOLDER"
_FETCHED_TYPES: Mapping[str, type] = {"notebook_url": str, "version": int, "is_private": bool}


@dataclass(frozen=True, slots=True)
class Witness:
    """``document``: witness.json; ``logs``: the platform's logs; ``fetched``: fetched.json, None where another program downloaded it.

    ``server``: the machine that was asked in Kaggle's place, whose word shows nothing; None where it was Kaggle.
    """

    document: JsonObject
    logs: Sequence[bytes]
    fetched: JsonObject | None = None
    server: str | None = None

    def is_logged(self, nonce: str) -> bool:
        """Whether a log has the nonce."""
        return any(nonce.encode() in log for log in self.logs)


def witness_document(record: JsonMapping, digests: Mapping[str, str]) -> JsonObject:
    """What the session leaves. ``record``: run_record.json; ``digests``: of the files that no template renders."""
    return {
        "schema_version": VERSION,
        "platform": PLATFORM,
        "run_version": record["run_version"],
        "nonce": (record["environment"].get("kaggle") or {}).get("nonce"),
        "digests": dict(sorted(digests.items())),
    }


def write_witness(evidence: Path, out: Path) -> Path:
    """``evidence``: the folder that the session has made; ``out``: the output folder. Raises EvidenceIncomplete E130."""
    path = evidence / "run_record.json"
    try:
        record = json.loads(path.read_bytes())
        rendered = {*record["templates"]}
        names = [line[66:] for line in (evidence / "manifest-sha256.txt").read_text(encoding="utf-8").splitlines()]
        digests = {name: digest_bytes((evidence / name).read_bytes()) for name in names if name not in rendered}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{path}: {type(error).__name__}"
        raise EvidenceIncomplete("E130", f"there is no evidence to leave a witness of: {reason}",
                                 hint="run the run-spec to its end first: runspec run SPEC") from error  # fmt: skip
    write_atomic(out / FILE, pretty_json(witness_document(record, digests)))
    return out / FILE


def read_witness(folder: Path, *, stand_in: str | None = None) -> Witness:
    """Raises InputInvalid (U155) where the folder is no download of a run's output.

    ``stand_in``: the address of a server that counts as Kaggle. Tests alone give one: no command has an option for it.
    """
    is_fetched = (folder / FETCHED).is_file()
    output = folder / OUTPUT if is_fetched else folder
    document = _document(output / FILE)
    fetched = _document(folder / FETCHED) if is_fetched else None
    if fetched is not None and any(not isinstance(fetched.get(name), kind) for name, kind in _FETCHED_TYPES.items()):
        raise InputInvalid("U155", f"{folder / FETCHED} cannot be used: it does not say what was fetched", hint=HOW)
    try:
        logs = [_head(log) for log in sorted(folder.glob("*.log"))[:MAX_LOGS] if log.is_file()]
    except OSError as error:
        raise _unreadable(folder, error) from error
    return Witness(
        document, logs, fetched, None if fetched is None else _server(fetched.get("api", PRODUCTION), stand_in)
    )


def _server(api: object, stand_in: str | None) -> str | None:
    """The machine that an address names, where it is neither Kaggle's nor the stand-in's.

    >>> _server("http://127.0.0.1:8080/api/v1", None), _server(PRODUCTION, None)
    ('127.0.0.1', None)
    """
    if api in (PRODUCTION, stand_in):
        return None
    try:
        return urlsplit(str(api)).hostname or str(api)
    except ValueError:
        return str(api)


def _head(log: Path) -> bytes:
    with log.open("rb") as stream:
        return stream.read(MAX_LOG_BYTES)


def _unreadable(path: Path, error: OSError) -> InputInvalid:
    reason = error.strerror or str(error)
    return InputInvalid("U155", f"{path} cannot be read: {reason}", hint=hint_for(error.errno) or HOW)


def _document(path: Path) -> JsonObject:
    try:
        with path.open("rb") as stream:
            data = stream.read((1 << 20) + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    problem = "it is larger than 1 MiB" if len(data) > 1 << 20 else refusal(path.name, data)
    try:
        value = json.loads(data) if problem is None else None
    except (ValueError, RecursionError) as error:
        problem = f"it is not JSON: {error}"
    if problem is None and (not isinstance(value, dict) or value.get("schema_version") != VERSION):
        problem = f"it is no witness of schema_version {VERSION}"
    if problem is not None or not isinstance(value, dict):
        raise InputInvalid("U155", f"{path} cannot be used: {problem}", hint=HOW)
    return value
