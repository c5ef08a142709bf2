"""``verify`` and ``score``: somebody's evidence or predictions, checked without the run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.commands.trust import scale_text, trust_document
from engine.errors import InputInvalid
from engine.evidence import verify as check
from engine.evidence.checks.stated import explained
from engine.evidence.contents import Reader
from engine.evidence.levels import headline
from engine.evidence.signing.trust import read_trusted_keys
from engine.evidence.witness import read_witness
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
    verification = check(path, _reader(arguments))
    rows = [
        {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail} for row in verification.checks
    ]
    stated = explained()
    document: JsonObject = {"ok": verification.ok, "trust_level": verification.trust_level,
                            "trust": trust_document(verification.trust), "checks": rows, "stated": stated}  # fmt: skip
    table = columns((row["id"], row["status"], f"{row['title']}: {row['detail']}".rstrip(": ")) for row in rows)
    lines = [table, *(["stated by the run, checked by nobody:", *(f"  {line}" for line in stated)] * arguments.explain)]
    lines += [f"{one_line(str(path))}: {one_line(headline(verification.trust))}", scale_text(verification.trust)]
    return Reply(document, "\n".join(lines), 0 if verification.ok else 5)


def _reader(arguments: Namespace) -> Reader:
    """What the reader brings: keys to trust, and a downloaded output."""
    trust, witness = arguments.trust, arguments.witness
    return Reader(
        read_trusted_keys(Path(trust)) if trust is not None else None,
        read_witness(Path(witness)) if witness is not None else None,
    )


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
