"""The named checks of ``verify``, V01 to V21, in order; each is a function of the evidence.

A check returns (status, detail). The detail of ``n/a`` says why the check does not apply to this evidence.
docs/reference/evidence-files.md says what each check proves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from engine.canonical import digest_bytes, digest_json, digest_text
from engine.data import render_prompt, without_repeats
from engine.errors import RunspecError
from engine.evidence.asked import by_chat_template
from engine.evidence.contents import Answer, Broken, Evidence, equal_values, leaves
from engine.evidence.folder import MANIFEST
from engine.evidence.line_ends import changed_line_ends, sentence
from engine.evidence.render import schema_problems
from engine.evidence.secrets import find_secrets
from engine.evidence.view import clock_warnings
from engine.scoring import ScoringItem, parse_eval_set, parse_predictions, result_summary_text, score

LEAST_LOSS_SAMPLES = 2
_HEX64 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a repository's names are SHA-1 or SHA-256
_PLACEHOLDER = re.compile(
    r"<[^<>]*(PENDING|paste|your[ -]|from RESULT|if displayed)[^<>]*>|\bTODO\b|X\.X{2,}|0\.X{2,}|\[Awaiting",
    re.IGNORECASE,
)
_KAGGLE_URL = re.compile(r"https://www\.kaggle\.com/code/[\w-]+/[\w-]+(/versions/\d+|\?scriptVersionId=\d+)?")


def _asked_items(evidence: Evidence) -> Sequence[ScoringItem]:
    """The items of the eval set, without those that the recorded policy leaves out."""
    items = parse_eval_set(evidence.text("eval_set.jsonl"), "eval_set.jsonl")
    return without_repeats(items) if evidence.drops_repeated_items else items


def names_are_safe(evidence: Evidence) -> Answer:
    problems = evidence.bundle.problems
    return _answer(problems, f"{len(evidence.bundle.files)} plain files")


def manifest_covers_all(evidence: Evidence) -> Answer:
    turned = changed_line_ends(evidence.bundle.files, MANIFEST)
    lines = [line.removesuffix("\r" * bool(turned)) for line in evidence.text(MANIFEST).split("\n") if line]
    listed, problems = {}, []
    if turned:
        problems.append(sentence(turned))
    for line in lines:
        digest, gap, name = line[:64], line[64:66], line[66:]
        if not _HEX64.fullmatch(digest) or gap != "  " or name in listed:
            problems.append(f"the line {line[:90]!r} is not a digest and a name listed once")
        listed[name] = digest
    present = {name for name in evidence.bundle.files if name != MANIFEST}
    problems += [f"{name} is not listed" for name in sorted(present - set(listed))]
    problems += [f"{name} is listed but missing" for name in sorted(set(listed) - present)]
    problems += [
        f"{name} has been changed"
        for name in sorted(present & set(listed))
        if name not in turned and digest_bytes(evidence.data(name)) != listed[name]
    ]
    return _answer(problems, f"{len(listed)} files, every SHA-256 as listed")


def schemas_hold(evidence: Evidence) -> Answer:
    names = [
        "run_manifest.json",
        "eval_summary.json",
        *(name for name in evidence.bundle.files if name == "scorecard.json"),
    ]
    problems = [f"{name}: {problem}" for name in names for problem in schema_problems(name, evidence.json(name))]
    return _answer(problems, f"{', '.join(names)}")


def nothing_is_empty(evidence: Evidence) -> Answer:
    problems = []
    for name in ("run_manifest.json", "eval_summary.json"):
        value = evidence.json(name)
        reasons = value.get("not_applicable", {})
        for path, leaf in leaves(value):
            if leaf is None and not str(reasons.get(path.split(".")[0]) or reasons.get(path) or "").strip():
                problems.append(f"{name}: {path} is null, without a reason")
            if isinstance(leaf, str) and _PLACEHOLDER.search(leaf):
                problems.append(f"{name}: {path} holds a placeholder: {leaf[:60]}")
        problems += [
            f"{name}: {key} has a value and a reason for having none" for key in reasons if value.get(key) is not None
        ]
    problems += [
        f"kaggle_output_log.txt: placeholder {match.group()[:60]}"
        for match in [_PLACEHOLDER.search(evidence.text("kaggle_output_log.txt"))]
        if match
    ]
    return _answer(problems, "every field has a value, or a reason for having none")


def names_agree(evidence: Evidence) -> Answer:
    manifest, record = evidence.manifest, evidence.record
    problems = [
        f"{key}: {manifest.get(key)!r} in run_manifest.json, {record.get(key)!r} in run_record.json"
        for key in ("run_version", "model_id", "model_revision", "dataset", "eval_set", "command")
        if manifest.get(key) != record.get(key)
    ]
    problems += [
        f"{key}: {manifest.get(key)!r} in run_manifest.json, {evidence.summary.get(key)!r} in eval_summary.json"
        for key in ("run_version", "eval_set")
        if manifest.get(key) != evidence.summary.get(key)
    ]
    return _answer(problems, f"run {manifest['run_version']}, model {manifest['model_id']}")


def spec_is_the_one(evidence: Evidence) -> Answer:
    digest = digest_bytes(evidence.data("runspec.yaml"))
    problems = [
        f"runspec.yaml has SHA-256 {digest[:12]}…, {name} says {str(recorded)[:12]}…"
        for name, recorded in (
            ("run_manifest.json", evidence.manifest.get("spec_sha256")),
            ("run_record.json", evidence.record.get("spec_digest")),
        )
        if recorded != digest
    ]
    if evidence.manifest.get("overrides") != evidence.record.get("overrides"):
        problems.append("the overrides differ between run_manifest.json and run_record.json")
    overrides = evidence.record["overrides"]
    for step in evidence.record["steps"]:
        for key, value in step["declared"].items():
            changed = f"{step['id']}.{key}" in overrides or any(
                name.startswith(f"{step['id']}.{key}.") for name in overrides
            )
            if not changed and value != step["with"].get(key):
                problems.append(f"{step['id']}.{key} was declared {value!r} and was {step['with'].get(key)!r}")
    return _answer(problems, f"overrides listed: {len(overrides)}")


def commit_is_named(evidence: Evidence) -> Answer:
    manifest, recorded = evidence.manifest, evidence.record["environment"]
    commit, dirty, reasons = manifest["commit_sha"], manifest.get("commit_dirty"), manifest["not_applicable"]
    problems = [
        f"{key} is {manifest.get(key)!r} in run_manifest.json, {recorded.get(key)!r} in run_record.json"
        for key in ("commit_sha", "commit_dirty", "diff_sha256")
        if manifest.get(key) != recorded.get(key)
    ]
    if commit is None:
        return _answer(problems, "") if problems else ("n/a", str(reasons.get("commit_sha", "no commit")))
    problems += [] if _COMMIT.fullmatch(str(commit)) else [f"{commit!r} is not a commit id"]
    if dirty and not _HEX64.fullmatch(str(manifest.get("diff_sha256"))):
        problems.append("the checkout had uncommitted changes, but their digest is missing")
    changes = "with uncommitted changes, digest recorded" if dirty else "clean"
    if dirty is None:
        changes = f"whether files were changed since is unknown: {reasons.get('commit_dirty', 'no reason')}"
    return _answer(problems, f"{str(commit)[:12]}, {changes}")


def times_are_in_order(evidence: Evidence) -> Answer:
    record, problems = evidence.record, []
    for step in record["steps"]:
        if not record["started_at"] <= step["started_at"] <= step["finished_at"] <= record["finished_at"]:
            problems.append(f"step {step['id']} is outside the run or ends before it starts")
    if evidence.summary["evaluated_at"] != evidence.step("score")["finished_at"]:
        problems.append("evaluated_at is not when the score step finished")
    if evidence.manifest["timestamp"] != record["started_at"]:
        problems.append("timestamp is not when the run started")
    remarks = clock_warnings(record["environment"], {step["id"]: step["facts"] for step in record["steps"]})
    return _answer(problems, "; ".join([f"{record['started_at']} to {record['finished_at']}", *remarks]))


def ids_are_the_eval_sets(evidence: Evidence) -> Answer:
    items = [item.id for item in _asked_items(evidence)]
    rows = [row.get("id") for row in evidence.rows("predictions.jsonl")]
    return _answer(
        [] if items == rows else ["predictions.jsonl does not have each item once, in order"], f"{len(items)} items"
    )


def prompts_are_the_items(evidence: Evidence) -> Answer:
    template = evidence.step("generate")["facts"].get("chat_template")
    return (
        _by_render(evidence) if template is None else by_chat_template(evidence, str(template), _asked_items(evidence))
    )


def _by_render(evidence: Evidence) -> Answer:
    render = str(evidence.step("train_sft")["facts"]["render"])
    problems = []
    rows = {row["id"]: row for row in evidence.rows("predictions.jsonl")}
    for item in _asked_items(evidence):
        recorded = rows[item.id].get("prompt_sha256")
        if recorded is not None and recorded != digest_text(render_prompt(render, item.prompt)):
            problems.append(f"{item.id} was generated from another prompt")
    return _answer(problems, f"rendered by {render}")


def score_is_recomputed(evidence: Evidence) -> Answer:
    items = _asked_items(evidence)
    predictions = parse_predictions(evidence.text("predictions.jsonl"), "predictions.jsonl")
    rows, card = score(items, [row for row in predictions if row.text is not None], str(evidence.manifest["metric"]))
    summary, problems = evidence.summary, []
    recomputed = {
        "primary_score": card.primary_score,
        f"metrics.{card.metric.split('@')[0]}": card.primary_score,
        **{
            f"scorecard.{key}": value for key, value in card.as_json().items() if key not in ("metric", "primary_score")
        },
    }
    for path, value in recomputed.items():
        recorded: Any = summary
        for part in path.split("."):
            recorded = recorded.get(part) if isinstance(recorded, dict) else None
        if not equal_values(recorded, value):
            problems.append(f"{path} is {recorded!r}, recomputed {value!r}")
    for row, scored in zip(evidence.rows("predictions.jsonl"), rows, strict=True):
        for key in ("extracted", "expected", "correct"):
            if row.get(key) != getattr(scored, key):
                problems.append(f"{row['id']}.{key} is {row.get(key)!r}, recomputed {getattr(scored, key)!r}")
    return _answer(problems, f"{card.metric}: {card.primary_score:.4f}, recomputed on {card.n_items} items")


def counts_add_up(evidence: Evidence) -> Answer:
    card = evidence.summary["scorecard"]
    problems = (
        [] if card["n_items"] == card["n_scored"] + card["n_skipped"] else ["n_items is not n_scored + n_skipped"]
    )
    if evidence.json("scorecard.json").get("n_items") != card["n_items"]:
        problems.append("scorecard.json and eval_summary.json differ in n_items")
    return _answer(problems, f"{card['n_items']} items, {card['n_scored']} scored, {card['n_skipped']} skipped")


def loss_is_the_last_metric(evidence: Evidence) -> Answer:
    rows, problems = evidence.metrics, []
    steps = [row.get("train_step") for row in rows]
    if steps != list(range(1, len(rows) + 1)) or not rows:
        problems.append("metrics.jsonl does not have one row for each train step")
    if len(rows) != evidence.step("train_sft")["facts"]["num_train_steps"]:
        problems.append("the number of rows is not the number of train steps")
    for name, recorded in (
        ("eval_summary.json", evidence.summary["metrics"]["final_loss"]),
        ("train_report.json", evidence.json("train_report.json").get("final_loss")),
    ):
        if rows and not equal_values(recorded, rows[-1].get("loss")):
            problems.append(
                f"final_loss is {recorded} in {name}, and {rows[-1].get('loss')} in the last row of metrics.jsonl"
            )
    return _answer(problems, f"{len(rows)} train steps, last loss {rows[-1]['loss']:.4f}" if rows else "")


def log_is_the_summary(evidence: Evidence) -> Answer:
    log, summary = evidence.text("kaggle_output_log.txt"), evidence.summary
    expected = result_summary_text(
        {
            "model_id": evidence.manifest["model_id"],
            "dataset": evidence.manifest["dataset"],
            "eval_set": summary["eval_set"],
            "primary_score": summary["primary_score"],
            "final_loss": summary["metrics"]["final_loss"],
            "n_items": summary["scorecard"]["n_items"],
            "n_scored": summary["scorecard"]["n_scored"],
        }
    )
    problems = (
        []
        if expected in log and log.count("RESULT SUMMARY") == 1
        else ["the RESULT SUMMARY in the log differs from eval_summary.json"]
    )
    finite = [row for row in evidence.metrics if row["loss"] is not None]  # a skipped train step has none
    losses = {f"{row['train_step']}": f"{row['loss']:.4f}" for row in finite}
    samples = re.findall(r"train step (\d+)/\d+\s+loss ([0-9.]+)", log)
    problems += [
        f"the log's loss of train step {step} is not in metrics.jsonl"
        for step, loss in samples
        if losses.get(step) != loss
    ]
    if len(samples) < min(LEAST_LOSS_SAMPLES, len(losses)):
        problems.append(f"the log has {len(samples)} loss samples")
    return _answer(problems, f"RESULT SUMMARY and {len(samples)} loss samples agree")


def log_names_the_machine(evidence: Evidence) -> Answer:
    log, facts = evidence.text("kaggle_output_log.txt"), evidence.step("train_sft")["facts"]
    names = [f"jax {facts['libraries']['jax']}", *facts["devices"]]
    return _answer([f"the log does not name {text}" for text in names if text not in log], ", ".join(names))


def predictions_are_the_models(evidence: Evidence) -> Answer:
    trained, generated = (evidence.step(kind)["facts"].get("model_sha256") for kind in ("train_sft", "generate"))
    problems = (
        []
        if trained == generated == evidence.manifest.get("model_sha256")
        else ["the predictions and the training run name different model bytes"]
    )
    made_from = evidence.step("generate")["ingredients"]["inputs"]["checkpoint"]["content"]
    if made_from != evidence.step("train_sft")["content_sha256"]:
        problems.append("the generate step used another checkpoint than the train step published")
    return _answer(problems, f"model {str(trained)[:12]}…")


def data_is_the_recorded(evidence: Evidence) -> Answer:
    dataset, problems = evidence.step("build_dataset"), []
    if digest_bytes(evidence.data("dataset_manifest.json")) != dataset["facts"]["manifest_sha256"]:
        problems.append("dataset_manifest.json is not the one that the build wrote")
    if digest_bytes(evidence.data("eval_set.jsonl")) != evidence.eval_set_sha256:
        problems.append("eval_set.jsonl is not the one that was scored on")
    overlap = dataset["facts"]["n_overlap"]
    if (
        overlap
        and dataset["with"]["on_overlap"] != "keep"
        and not evidence.json("dataset_manifest.json")["lineage"]["n_dropped"]
    ):
        problems.append(f"{overlap} training rows overlap with the eval set, and the run-spec does not allow it")
    for step in evidence.record["steps"]:
        if digest_json(step["ingredients"]) != step["fingerprint"]:
            problems.append(f"the fingerprint of step {step['id']} is not that of its ingredients")
    problems += _changed_files(evidence)
    return _answer(problems, f"dataset {dataset['facts']['dataset']}, overlap with the eval set: {overlap}")


def _changed_files(evidence: Evidence) -> list[str]:
    """Attachments that differ from the files that the steps published."""
    origin = {
        "metrics.jsonl": ("train_sft", "metrics.jsonl"),
        "train_report.json": ("train_sft", "train_report.json"),
        "predictions.jsonl": ("score", "predictions.jsonl"),
        "scorecard.json": ("score", "scorecard.json"),
    }
    return [
        f"{name} is not the file that step {evidence.step(kind)['id']} published"
        for name, (kind, source) in origin.items()
        if digest_bytes(evidence.data(name)) != evidence.step(kind)["files"].get(source)
    ]


def no_secret_is_packed(evidence: Evidence) -> Answer:
    return _answer(
        [f"{position}: {kind}" for position, kind in find_secrets(evidence.bundle.files)], "none found by shape"
    )


def kaggle_is_well_formed(evidence: Evidence) -> Answer:
    url = evidence.manifest["kaggle_notebook_url"]
    if url is None:
        return "n/a", str(evidence.manifest["not_applicable"].get("kaggle_notebook_url", "no notebook"))
    return _answer(
        [] if _KAGGLE_URL.fullmatch(str(url)) else [f"{url} is not the address of a Kaggle notebook"], str(url)
    )


CHECKS: Sequence[tuple[str, str, Callable[[Evidence], Answer]]] = (
    ("V01", "member names are safe", names_are_safe),
    ("V02", "manifest-sha256.txt covers every file and nothing else", manifest_covers_all),
    ("V03", "evidence files follow their schemas", schemas_hold),
    ("V04", "no null without a reason, no placeholder", nothing_is_empty),
    ("V05", "names agree in all files", names_agree),
    ("V06", "the run-spec is the recorded one, declared = effective", spec_is_the_one),
    ("V07", "the commit is named", commit_is_named),
    ("V08", "times are in order", times_are_in_order),
    ("V09", "one prediction for each eval item, in order", ids_are_the_eval_sets),
    ("V10", "prompts are those of the eval items", prompts_are_the_items),
    ("V11", "scores recomputed from the predictions", score_is_recomputed),
    ("V12", "counts add up", counts_add_up),
    ("V13", "final loss is the last metric, no gaps", loss_is_the_last_metric),
    ("V14", "the log agrees with the summary", log_is_the_summary),
    ("V15", "the log names versions and devices", log_names_the_machine),
    ("V16", "predictions come from the trained model", predictions_are_the_models),
    ("V19", "the notebook's address is well formed", kaggle_is_well_formed),
    ("V20", "data and artifacts are the recorded ones", data_is_the_recorded),
    ("V21", "no secret", no_secret_is_packed),
)


def run_check(function: Callable[[Evidence], Answer], evidence: Evidence) -> Answer:
    """Run one check; it fails where the evidence has the wrong shape for it."""
    try:
        return function(evidence)
    except Broken as error:
        return "fail", str(error)
    except RunspecError as error:
        return "fail", error.diagnostics[0].message
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        # A stranger's files can have a value of any type.
        return "fail", f"a value is missing or of the wrong kind: {type(error).__name__} {error}"


def _answer(problems: Sequence[str], detail: str) -> Answer:
    """Fail with the first problems, or pass with the detail."""
    if not problems:
        return "pass", detail
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "fail", "; ".join(problems[:3]) + more


__all__ = ["CHECKS", "Evidence", "run_check"]
