"""Evidence of a run that is not finished: a few files that say how far it is, and that never verify.

In: what the pipeline knows of the unfinished run. Out: ``incomplete.json``, the run-spec and their digests, in the evidence folder; the complete
evidence takes their place when the run has finished. Complete evidence that is there already is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engine.canonical import JsonMapping, digest_bytes, pretty_json, write_atomic
from engine.errors import EvidenceIncomplete, RunFailed
from engine.evidence.bundle import Bundle
from engine.evidence.folder import INCOMPLETE, MANIFEST, OWNERS, check_owner, listing_of
from engine.evidence.secrets import refuse_secrets

VERSION = 1
MOST_STEPS = 12


def write_unfinished(folder: Path, run_version: str, document: JsonMapping, attachments: Mapping[str, bytes]) -> bool:
    """Write it; False where the folder has the complete evidence of an earlier run. Raises E108, X340; OSError."""
    check_owner(run_version, folder)
    if any((folder / name).exists() for name in OWNERS):
        return False
    values = {"schema_version": VERSION, "state": "incomplete", "run_version": run_version, **document}
    contents = {INCOMPLETE: pretty_json(values).encode(), **attachments}
    refuse_secrets(contents, RunFailed, "X340", "no evidence was written; remove the secret from where it comes from")
    listing = listing_of({name: digest_bytes(data) for name, data in contents.items()})
    for name, data in {**contents, MANIFEST: listing.encode()}.items():
        write_atomic(folder / name, data)
    return True


def refuse_unfinished(path: Path, bundle: Bundle) -> None:
    """Raises EvidenceIncomplete E112 where the files say that their run is not finished."""
    data = bundle.files.get(INCOMPLETE)
    if data is None:
        return
    raise EvidenceIncomplete(
        "E112",
        f"{path} is the evidence of a run that is not finished: {_how_far(data)}",
        hint="finish the run (`runspec run SPEC`, with --continue-from on another machine), then verify its evidence",
    )


def _how_far(data: bytes) -> str:
    """From a file that anybody may have written."""
    try:
        value = json.loads(data)
        steps = [f"{step['id']} ({step['state']})" for step in value["left"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return f"{INCOMPLETE} cannot be read"
    more = f" and {len(steps) - MOST_STEPS} more" if len(steps) > MOST_STEPS else ""
    return f"left are {', '.join(steps[:MOST_STEPS])}{more}"
