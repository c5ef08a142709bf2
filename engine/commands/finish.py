"""``verify`` and ``score``: somebody's evidence or predictions, checked without the run."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.commands.reading import evidence_of, not_verified, opened
from engine.commands.rerun import asked, differences_text, judged_again, rerun_document
from engine.commands.trust import reader_of
from engine.errors import Diagnostic, InputInvalid, VerificationFailed
from engine.evidence import verify as check
from engine.evidence.contents import Evidence
from engine.evidence.report.page import part
from engine.evidence.rescore import Judged, differences, judge, recorded_metric
from engine.evidence.standalone.outcome import verification_json, verification_text
from engine.printable import one_line
from engine.scoring import METRICS, score_files
from engine.scoring.metrics import metric_named

HEAD_BYTES = 1 << 20  # of the first row of a file


def verify(arguments: Namespace) -> Reply:
    """Check a folder or a zip; of a run-spec, its evidence folder."""
    path, request = Path(arguments.path), asked(arguments)
    if is_spec(arguments.path) and path.suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.path)
        path = spec.resolve(spec.evidence.dir)
    if not path.exists():
        raise InputInvalid("U114", f"{path} does not exist", hint="name an evidence folder, a zip or a run-spec")
    reader = reader_of(arguments)
    verification, other = check(path, reader), None
    if request is not None and verification.ok:
        verification, other = judged_again(path, reader, request, arguments)
    found = differences_text(other) if request is not None else []
    text = verification_text(str(path), verification, explain=arguments.explain, differences=found)
    document = verification_json(verification, rerun_document(other))
    return Reply(document, text, 0 if verification.ok else VerificationFailed.exit_code)


def score(arguments: Namespace) -> Reply:
    """The scorer alone: of two files, or of evidence, whose recorded score must come out again."""
    if arguments.eval_set is None:
        return _score_evidence(arguments)
    metric = metric_named(arguments.metric or next(iter(METRICS)))
    _refuse_swapped(arguments.predictions, arguments.eval_set)
    rows, card = score_files(Path(arguments.predictions), Path(arguments.eval_set), metric)
    document: JsonObject = {"ok": True, "scorecard": card.as_json(), "items": [row.as_json() for row in rows]}
    return Reply(document, columns(_figures(card.as_json()), indent=""))


def _refuse_swapped(predictions: str, eval_set: str) -> None:
    """U103 where each of the two files is what the other should be."""
    first, second = _keys_of(predictions), _keys_of(eval_set)
    if "expected_answer" in first and "text" not in first and "text" in second and "expected_answer" not in second:
        raise InputInvalid("U103", f"runspec score: {predictions} is an eval set, and {eval_set} has predictions",
                           hint=f"the other way round: runspec score {eval_set} {predictions}")  # fmt: skip


def _keys_of(word: str) -> frozenset[str]:
    """The keys of the first row of a JSONL file; none where it is something else, which its reader explains."""
    try:
        if not Path(word).is_file():
            return frozenset()
        with Path(word).open("rb") as stream:
            row = json.loads(stream.readline(HEAD_BYTES))
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(row) if isinstance(row, dict) else frozenset()


def _score_evidence(arguments: Namespace) -> Reply:
    """Exit code 5 where a verdict or the scorecard is another one, or where another check fails."""
    if Path(arguments.predictions).suffix in (".jsonl", ".json"):
        raise InputInvalid(
            "U103",
            "runspec score: EVAL_SET is missing",
            hint="runspec score PREDICTIONS EVAL_SET, or of evidence: runspec score RUN",
        )
    if arguments.metric is not None:
        metric_named(arguments.metric)  # K101 is about what was typed, not about the evidence
    source = evidence_of(arguments.predictions)
    bundle, verification = opened(source)
    evidence = Evidence(bundle)
    found = part(lambda: _judged(evidence, arguments.metric))
    if found.value is None:
        raise VerificationFailed(
            "U149", f"{source} cannot be scored: {one_line(found.reason)}", hint=f"runspec verify {source}"
        )
    judged, recorded, other = found.value
    problems = not_verified(source, verification)
    if other:
        more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
        message = f"{source} records another score than its predictions give: {one_line('; '.join(other[:3]))}{more}"
        problems = (
            Diagnostic(
                "U156", message, hint=f"do not rely on the recorded one; which answers: runspec items {source} --wrong"
            ),
            *problems,
        )
    document = {"ok": not problems, "scorecard": judged.card.as_json(), "items": [row.as_json() for row in judged.rows],
                "recorded": recorded, "differences": other, "trust_level": verification.trust_level}  # fmt: skip
    return Reply(
        document, _compared(source, judged, recorded, other), VerificationFailed.exit_code if problems else 0, problems
    )


def _judged(evidence: Evidence, metric: str | None) -> tuple[Judged, JsonObject | None, list[str]]:
    """Judged again, the recorded scorecard, and how they differ; None and nothing where the metric is another one."""
    judged = judge(evidence, metric)
    if judged.card.metric != recorded_metric(evidence):
        return judged, None, []
    return judged, evidence.json("scorecard.json"), differences(evidence, judged)


def _compared(source: Path, judged: Judged, recorded: JsonObject | None, other: Sequence[str]) -> str:
    card, n_wrong = judged.card, sum(row.correct < 1 for row in judged.rows)
    wrong = f"{n_wrong} not right: runspec items {source} --wrong" if n_wrong else "all right"
    head = f"{card.metric} {100 * card.primary_score:.1f} % over {card.n_items} items, {wrong}"
    again = [row for row in _figures(card.as_json()) if row[0] != "metric"]
    if recorded is None:
        table, verdict = columns(again), "not compared: the evidence records another metric"
    else:
        before = dict(_figures(recorded))
        rows = [
            ("", "scored again", "recorded"),
            *((label, text, before.get(label, "nothing")) for label, text in again),
        ]
        table = columns(rows)
        verdict = f"as recorded: the scorecard and all {len(judged.rows)} verdicts"
    return "\n".join([one_line(head), table, *([] if other else [verdict])])


def _figures(scorecard: JsonObject) -> list[tuple[str, str]]:
    """A scorecard as labels and numbers; of a stranger's, whatever its values are."""
    lines: list[tuple[str, str]] = []
    for key, value in scorecard.items():
        group = value if isinstance(value, dict) else {"": value}
        for name, number in group.items():
            label = f"{key.removesuffix('_scores')}: {name}" if name else key
            lines.append((label, f"{number:.4f}" if isinstance(number, float) else str(number)))
    return lines
