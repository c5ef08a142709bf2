"""A verification as `runspec verify` and verify.py print it: one JSON document, or lines for a person.

verification = verify(path)
print(verification_text(str(path), verification))
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.canonical import JsonObject
from engine.evidence.checks.stated import explained
from engine.evidence.levels import Trust, headline
from engine.evidence.verify import Verification
from engine.printable import columns, one_line


def verification_json(verification: Verification, rerun: JsonObject | None = None) -> JsonObject:
    """What ``--json`` prints; ``rerun``: what came out where a part was run again."""
    rows = [
        {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail} for row in verification.checks
    ]
    return {
        "ok": verification.ok,
        "trust_level": verification.trust_level,
        "trust": trust_document(verification.trust),
        "checks": rows,
        "stated": explained(verification.worded_by_author),
        "rerun": rerun,
    }


def verification_text(
    path: str, verification: Verification, *, explain: bool = False, differences: Sequence[str] = ()
) -> str:
    """The checks as a table, with ``explain`` what the run states and nobody checks, the verdict, and the scale of trust."""
    checks = verification.checks
    lines = [columns((row.id, row.status, f"{row.title}: {row.detail}".rstrip(": ")) for row in checks)]
    if explain:
        lines += [
            "stated by the run, checked by nobody:",
            *(f"  {line}" for line in explained(verification.worded_by_author)),
        ]
    verdict = f"{one_line(path)}: {one_line(headline(verification.trust))}"
    return "\n".join([*lines, *differences, verdict, scale_text(verification.trust)])


def trust_document(trust: Trust) -> JsonObject:
    """For ``--json``."""
    levels = [
        {
            "level": rung.name,
            "title": rung.title,
            "shown": rung.shown,
            "found": rung.found,
            "proves": rung.proves,
            "takes": rung.takes,
        }
        for rung in trust.rungs
    ]
    return {"level": trust.level, "proves": trust.proves, "levels": levels}


def scale_text(trust: Trust) -> str:
    """The scale as lines, and what the next level takes."""
    rows = [
        (
            rung.name,
            "shown" if rung.shown else "not shown",
            rung.title + (f": {rung.found}" if rung.name != "L0" else ""),
        )
        for rung in trust.rungs
    ]
    if trust.level is None or trust.next is None:
        return columns(rows)
    return f"{columns(rows)}\nnext, {trust.next.name}: {trust.next.takes}"
