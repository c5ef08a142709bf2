"""V27: what a step says of itself against the files that show it, by one table.

In: the evidence. Out: the check's answer. For each kind of step a function gives the facts as they follow from the
attachments, from the arguments and from the facts of earlier steps; a fact that is another one is named.

Facts are those of the recorded version of the kind, exactly (:mod:`engine.evidence.checks.versions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from engine.artifacts.journal import RunRecord, StepRecord
from engine.canonical import JsonMapping, JsonObject, digest_bytes
from engine.data import without_repeats
from engine.evidence.checks.dataset import manifest_problems
from engine.evidence.checks.recorded import own_facts, recorded_run
from engine.evidence.checks.versions import may_be_missing
from engine.evidence.contents import Answer, Evidence, answer, changes
from engine.evidence.rescore import all_items
from engine.protocol.kaggle_models import parse_kaggle_model

LEAST_SECONDS = 1e-6  # of a generation, as the trainer counts it
# Sums of seconds are rounded to so many digits, and Python adds floats in another way since 3.12: one unit of the last digit.
MEASURED = {"tokens_per_second": 1, "input_wait_share": 6}


def facts_are_the_files(evidence: Evidence) -> Answer:
    """V27."""
    record, problems, compared, version = recorded_run(evidence), [], 0, int(evidence.record["schema_version"])
    for step in record.steps:
        if step.uses not in TABLE:
            continue  # of a plug-in: V26 has its digests
        expected, found = TABLE[step.uses](evidence, record, step), own_facts(dict(step.artifact.facts))
        compared += len(expected)
        problems += [f"step {step.id}: {problem}" for problem in _compare(expected, found, step, version)]
    problems += [f"dataset_manifest.json: {problem}" for problem in manifest_problems(evidence, record)]
    problems += _versions(record)
    return answer(problems, f"{compared} facts follow from files, arguments and earlier steps")


# Facts that nothing in the evidence shows; dataset_commit only of a data set of the hub.
STATED_FACTS: Mapping[str, tuple[str, ...]] = {
    "build_dataset": ("dataset_commit",),
    "generate": ("platform", "chat_template", "weights"),
}


def _compare(expected: JsonMapping, found: JsonMapping, step: StepRecord, evidence_version: int) -> Iterator[str]:
    stated = [name for name in STATED_FACTS.get(step.uses, ()) if name != "dataset_commit" or _is_of_the_hub(step)]
    unknown = sorted(found.keys() - expected.keys() - set(stated))
    if unknown:
        yield f"{', '.join(unknown)}: no step of this kind reports it"
    for name in [*expected, *stated]:
        if name not in found:
            version = step.artifact.ingredients["version"]
            if not may_be_missing(step.uses, name, step_version=version, evidence_version=evidence_version):
                yield f"{name} is missing"
            elif expected.get(name):
                yield f"{name} is missing, and it follows as {expected[name]!r:.60}"
        elif name in expected and not (name in MEASURED and _is_near(found[name], expected[name], MEASURED[name])):
            yield from changes(expected[name], found[name], name)


def _is_of_the_hub(step: StepRecord) -> bool:
    return step.artifact.ingredients["spec"]["dataset"]["declared"]["hub"] is not None


def _is_near(found: object, value: float, digits: int) -> bool:
    """Whether it is the value, or its neighbour with the same number of digits."""
    return isinstance(found, float) and round(found, digits) == found and abs(found - value) < 1.5 * 10**-digits


def _must(record: RunRecord, kind: str) -> StepRecord:
    step = record.step_of(kind)
    if step is None:
        raise ValueError(f"there is no {kind} step")
    return step


def _build_dataset(evidence: Evidence, record: RunRecord, step: StepRecord) -> JsonObject:
    manifest = evidence.json("dataset_manifest.json")
    lineage = manifest["lineage"]
    return {
        "dataset": record.dataset,
        "n_rows": manifest["trace_count"],
        "rows_sha256": step.artifact.files["rows.jsonl"],
        "render": manifest["render"],
        "n_duplicates": lineage["n_duplicates"],
        "n_overlap": lineage["n_overlap"] or 0,
        "n_dropped": lineage["n_dropped"],
        "manifest_sha256": digest_bytes(evidence.data("dataset_manifest.json")),
    }


def _smoke_run(evidence: Evidence, record: RunRecord, step: StepRecord) -> JsonObject:
    report = evidence.json("smoke_report.json")
    args, trained, card = step.args, evidence.json("train_report.json"), evidence.json("scorecard.json")
    # The whole data set was tokenised, unless the smoke run was declared a smaller one.
    longest = report if args["reduce"] else trained
    return {
        **report,
        "longest_row_tokens": longest["longest_row_tokens"],
        "score_n_items": min(args["num_items"], card["n_items"]),
        "num_train_steps": args["num_train_steps"],
        "killed_at": report["killed_at"] if args["kill"] else None,
        "resumed_from": report["killed_at"],
        "reduce": args["reduce"],
        "platform": report["platform"]
        if "device" in args["reduce"]
        else _must(record, "train_sft").artifact.facts["platform"],
    }


def _train_sft(evidence: Evidence, record: RunRecord, step: StepRecord) -> JsonObject:
    rows, report, args = evidence.metrics, evidence.json("train_report.json"), step.args
    exported = len(rows) if args["export"] == "last" else report["exported_train_step"]
    seconds = sum(row["seconds"] for row in rows)
    expected = {
        **report,
        "final_loss": rows[-1]["loss"],
        "final_eval_loss": rows[-1].get("eval_loss"),
        "exported_train_step": exported,
        "exported_eval_loss": rows[exported - 1].get("eval_loss"),
        "num_train_steps": args["num_train_steps"],
        "tokens_trained": sum(row["tokens"] for row in rows if not row.get("skipped")),
        "n_skipped_steps": sum(bool(row.get("skipped")) for row in rows),
        "n_non_finite_evals": sum("eval_loss" in row and row["eval_loss"] is None for row in rows),
        "method": args["method"],
        "param_dtype": args["dtype"],
        "compute_dtype": args["dtype"],
        "seq_len": args["seq_len"],
        "tokens_per_second": round(report["tokens_seen"] / seconds, 1),
        "input_wait_share": round(sum(row["input_wait_seconds"] for row in rows) / seconds, 6),
        "render": _must(record, "build_dataset").artifact.facts["render"],
    }
    kaggle = step.artifact.ingredients["spec"]["model"]["declared"].get("kaggle")
    if kaggle:
        expected["model_kaggle"] = {**report.get("model_kaggle", {}), **parse_kaggle_model(kaggle).parts()}
    else:
        expected.pop("model_kaggle", None)
    if args["method"] == "full":
        expected["trained_params"] = report["params"]
    return expected


def _generate(evidence: Evidence, record: RunRecord, step: StepRecord) -> JsonObject:
    rows = [row for row in evidence.rows("predictions.jsonl") if row["text"] is not None]
    new_tokens = sum(row["new_tokens"] for row in rows)
    seconds = max(sum(row["milliseconds"] for row in rows) / 1000, LEAST_SECONDS)
    train = _must(record, "train_sft").artifact.facts
    declared = step.args.get("weights", "auto")
    return {
        **({} if declared == "auto" else {"weights": declared}),
        "n_items": len(rows),
        "new_tokens": new_tokens,
        "tokens_per_second": round(new_tokens / seconds, 1),
        "finish_reasons": dict(Counter(row["finish_reason"] for row in rows)),
        "model_sha256": train["model_sha256"],
        "chat_template_sha256": train["chat_template_sha256"],
    }


def _score(evidence: Evidence, _: RunRecord, step: StepRecord) -> JsonObject:
    card, items = evidence.json("scorecard.json"), all_items(evidence)
    repeated = len(items) - len(without_repeats(items))
    expected: JsonObject = {name: card[name] for name in ("primary_score", "n_items", "n_scored", "n_skipped")}
    expected |= {"metric": step.args["metric"], "n_repeated_items": repeated}
    if repeated:  # "fail" would not have come so far
        expected["on_duplicate_item"] = "drop" if evidence.drops_repeated_items else "keep"
    return expected


def _result_summary(evidence: Evidence, record: RunRecord, _: StepRecord) -> JsonObject:
    card = evidence.json("scorecard.json")
    return {
        "model_id": record.model_id,
        "dataset": record.dataset,
        "eval_set": record.eval_set,
        "primary_score": card["primary_score"],
        "final_loss": evidence.metrics[-1]["loss"],
        "n_items": card["n_items"],
        "n_scored": card["n_scored"],
    }


# kind of step -> its facts as they follow from the evidence
TABLE: Mapping[str, Callable[[Evidence, RunRecord, StepRecord], JsonObject]] = {
    "build_dataset": _build_dataset,
    "smoke_run": _smoke_run,
    "train_sft": _train_sft,
    "generate": _generate,
    "score": _score,
    "result_summary": _result_summary,
}


def _versions(record: RunRecord) -> Iterator[str]:
    """One version of a library, and one commit of the model, whoever names it."""
    recorded, train = record.environment["libraries"], _must(record, "train_sft").artifact.facts
    for step in record.steps:
        used = step.artifact.ingredients["environment"]
        yield from changes(used, {name: recorded.get(name) for name in used}, f"step {step.id}: versions")
    named = {name: version for name, version in train["libraries"].items() if name in recorded}
    yield from changes({name: recorded[name] for name in named}, named, "libraries of the training run")
    commits = [
        commit for step in reversed(record.steps) for commit in [step.artifact.facts.get("model_commit")] if commit
    ]
    yield from changes(
        commits[0] if commits else record.model_revision_declared, record.model_revision, "model_revision"
    )
