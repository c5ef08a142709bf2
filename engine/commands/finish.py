"""``verify`` and ``score``: somebody's evidence or predictions, checked without the run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.errors import VerificationFailed
from engine.evidence import verify as check
from engine.evidence.outcome import missing_path, verification_json, verification_text
from engine.scoring import METRICS, score_files


def verify(arguments: Namespace) -> Reply:
    """Check a folder or a zip; of a run-spec, its evidence folder."""
    path = Path(arguments.path)
    if is_spec(arguments.path) and path.suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.path)
        path = spec.resolve(spec.evidence.dir)
    if not path.exists():
        raise missing_path(path)
    verification = check(path)
    text = verification_text(str(path), verification, explain=arguments.explain)
    return Reply(verification_json(verification), text, 0 if verification.ok else VerificationFailed.exit_code)


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
