"""A verification as `runspec verify` and verify.py print it: one JSON document, or lines for a person.

verification = verify(path)
print(verification_text(str(path), verification))
"""

from __future__ import annotations

from pathlib import Path

from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.evidence.checks.stated import explained
from engine.evidence.verify import Verification
from engine.printable import columns, one_line


def missing_path(path: Path) -> InputInvalid:
    """U114."""
    return InputInvalid("U114", f"{path} does not exist", hint="name an evidence folder, a zip or a run-spec")


def verification_json(verification: Verification) -> JsonObject:
    """What ``--json`` prints."""
    rows = [
        {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail} for row in verification.checks
    ]
    return {"ok": verification.ok, "trust_level": verification.trust_level, "checks": rows, "stated": explained()}


def verification_text(path: str, verification: Verification, *, explain: bool = False) -> str:
    """The checks as a table, and the verdict; with ``explain`` what the run states and nobody checks before it."""
    verdict = f"{one_line(path)}: {'verified' if verification.ok else 'NOT verified'}, trust level {verification.trust_level or 'none'}"
    if explain:
        verdict = "\n".join(["stated by the run, checked by nobody:", *(f"  {line}" for line in explained()), verdict])
    checks = verification.checks
    table = columns((row.id, row.status, f"{row.title}: {row.detail}".rstrip(": ")) for row in checks)
    return f"{table}\n{verdict}"
