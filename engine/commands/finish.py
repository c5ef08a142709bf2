"""``verify`` and ``score``: somebody's evidence or predictions, checked without the run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.errors import InputInvalid
from engine.evidence import verify as check
from engine.evidence.checks.stated import explained
from engine.printable import one_line
from engine.scoring import METRICS, score_files


def verify(arguments: Namespace) -> Reply:
    """Check a folder or a zip; of a run-spec, its evidence folder."""
    path = Path(arguments.path)
    if is_spec(arguments.path) and path.suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.path)
        path = spec.resolve(spec.evidence.dir)
    if not path.exists():
        raise InputInvalid("U114", f"{path} does not exist", hint="name an evidence folder, a zip or a run-spec")
    verification = check(path)
    rows = [
        {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail} for row in verification.checks
    ]
    document: JsonObject = {"ok": verification.ok, "trust_level": verification.trust_level, "checks": rows}
    verdict = f"{one_line(str(path))}: {'verified' if verification.ok else 'NOT verified'}, trust level {verification.trust_level or 'none'}"
    stated = explained()
    document["stated"] = stated
    if arguments.explain:
        verdict = "\n".join(["stated by the run, checked by nobody:", *(f"  {line}" for line in stated), verdict])
    table = columns((row["id"], row["status"], f"{row['title']}: {row['detail']}".rstrip(": ")) for row in rows)
    return Reply(document, f"{table}\n{verdict}", 0 if verification.ok else 5)


def score(arguments: Namespace) -> Reply:
    """The scorer alone."""
    metric = arguments.metric or next(iter(METRICS))
    rows, card = score_files(Path(arguments.predictions), Path(arguments.eval_set), metric)
    scorecard = card.as_json()
    document: JsonObject = {"ok": True, "scorecard": scorecard, "items": [row.as_json() for row in rows]}
    lines: list[tuple[str, str]] = []
    for key, value in scorecard.items():
        group = value if isinstance(value, dict) else {"": value}
        for name, number in group.items():
            label = f"{key.removesuffix('_scores')}: {name}" if name else key
            lines.append((label, f"{number:.4f}" if isinstance(number, float) else str(number)))
    return Reply(document, columns(lines, indent=""))
