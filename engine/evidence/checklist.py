"""The named checks of ``verify``, in order; each is a function of the evidence.

A check returns (status, detail). The detail of ``n/a`` says why the check does not apply to this evidence.
docs/reference/evidence-files.md says what each check proves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from engine.canonical import JsonObject, digest_bytes, digest_text
from engine.data import render_prompt
from engine.errors import RunspecError
from engine.evidence.about import SIGNATURE_FILES
from engine.evidence.checks.again import answers_come_out_again, losses_come_out_again
from engine.evidence.checks.asked import by_chat_template
from engine.evidence.checks.chain import steps_are_a_chain
from engine.evidence.checks.declared import spec_is_the_one
from engine.evidence.checks.facts import facts_are_the_files
from engine.evidence.checks.fields import schemas_hold
from engine.evidence.checks.members import only_named_files
from engine.evidence.checks.rendered import files_are_rendered
from engine.evidence.checks.training import metrics_follow
from engine.evidence.checks.vouched import (
    notebook_is_named,
    platform_has_the_digests,
    sessions_are_a_chain,
    signatures_fit,
    statement_is_of_these_files,
)
from engine.evidence.checks.weights import weights_are_signed, weights_are_the_recorded
from engine.evidence.contents import Answer, Broken, Evidence, NeedsEngine, answer, leaves
from engine.evidence.folder import MANIFEST, listing_of
from engine.evidence.line_ends import changed_line_ends, sentence
from engine.evidence.rescore import asked_items, differences, judge
from engine.evidence.secrets import find_secrets
from engine.evidence.standalone import FILE as VERIFY_PY
from engine.evidence.standalone import strange
from engine.evidence.view import clock_warnings

_HEX64 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)Z")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a repository's names are SHA-1 or SHA-256
_PLACEHOLDER = re.compile(
    r"<(?=[^<>]*>)[^<>]*?(PENDING|paste|your[ -]|from RESULT|if displayed)[^<>]*>|\bTODO\b|X\.X{2,}|0\.X{2,}|\[Awaiting",
    re.IGNORECASE,
)
SPECIAL_TOKENS = 16  # of a prompt: those that a tokenizer puts before and after a text
ENDS = ("eos", "end_of_turn", "stop")  # of an answer that has not all the tokens it may have


def names_are_safe(evidence: Evidence) -> Answer:
    problems = evidence.bundle.problems
    return answer(problems, f"{len(evidence.bundle.files)} plain files")


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
    present = {name for name in evidence.bundle.files if name not in (MANIFEST, *SIGNATURE_FILES)}
    problems += [f"{name} is not listed" for name in sorted(present - set(listed))]
    problems += [f"{name} is listed but missing" for name in sorted(set(listed) - present)]
    problems += [
        f"{name} has been changed"
        for name in sorted(present & set(listed))
        if name not in turned and digest_bytes(evidence.data(name)) != listed[name]
    ]
    if not problems and evidence.text(MANIFEST) != listing_of(listed):
        problems.append(f"{MANIFEST} lists the files in another order or with other lines than the engine does")
    return answer(problems, f"{len(listed)} files, every SHA-256 as listed")


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
    return answer(problems, "every field has a value, or a reason for having none")


def commit_is_named(evidence: Evidence) -> Answer:
    manifest = evidence.manifest
    commit, dirty, reasons = manifest["commit_sha"], manifest.get("commit_dirty"), manifest["not_applicable"]
    if commit is None:
        return "n/a", str(reasons.get("commit_sha", "no commit"))
    problems = [] if _COMMIT.fullmatch(str(commit)) else [f"{commit!r} is not a commit id"]
    if dirty and not _HEX64.fullmatch(str(manifest.get("diff_sha256"))):
        problems.append("the checkout had uncommitted changes, but their digest is missing")
    if dirty is False and manifest.get("diff_sha256") is not None:
        problems.append("the checkout is said to be clean, and a digest of uncommitted changes is there")
    changes = "with uncommitted changes, digest recorded" if dirty else "clean"
    if dirty is None:
        changes = f"whether files were changed since is unknown: {reasons.get('commit_dirty', 'no reason')}"
    return answer(problems, f"{str(commit)[:12]}, {changes}")


def times_are_in_order(evidence: Evidence) -> Answer:
    record = evidence.record
    problems = [
        f"{time!r:.40} is no time of the form 2026-01-02T03:04:05Z"
        for time in _times(record)
        if not _TIME.fullmatch(str(time))
    ]
    for step in record["steps"]:
        if not record["started_at"] <= step["started_at"] <= step["finished_at"] <= record["finished_at"]:
            problems.append(f"step {step['id']} is outside the run or ends before it starts")
    remarks = clock_warnings(record["environment"], {step["id"]: step["facts"] for step in record["steps"]})
    return answer(problems, "; ".join([f"{record['started_at']} to {record['finished_at']}", *remarks]))


def _times(record: JsonObject) -> list[object]:
    return [
        record["started_at"],
        record["finished_at"],
        *(step[name] for step in record["steps"] for name in ("started_at", "finished_at")),
    ]


def ids_are_the_eval_sets(evidence: Evidence) -> Answer:
    items = [item.id for item in asked_items(evidence)]
    rows, most = evidence.rows("predictions.jsonl"), evidence.step("generate")["with"]["max_new_tokens"]
    problems = []
    if items != [row.get("id") for row in rows]:
        problems.append("predictions.jsonl does not have each item once, in order")
    for row in (row for row in rows if row["text"] is not None):
        if not _could_be_generated(row, most):
            problems.append(
                f"{row['id']}: {row['new_tokens']} tokens, ended by {row['finish_reason']!r:.20}, of {most} at most"
            )
        if not _could_be_measured(row):
            problems.append(
                f"{row['id']}: {row['prompt_tokens']!r:.30} tokens in its prompt, {row['milliseconds']!r:.30} milliseconds"
            )
    return answer(problems, f"{len(items)} items, {most} tokens each at most")


def _could_be_generated(row: JsonObject, most: int) -> bool:
    """An answer ends with the token that ends it, with a stop string, or where it has all its tokens."""
    tokens, reason = row["new_tokens"], row["finish_reason"]
    return _is_count(tokens) and tokens <= most and (tokens == most if reason == "length" else reason in ENDS)


def _could_be_measured(row: JsonObject) -> bool:
    """A token stands for a byte of the prompt at least, but for the few that begin a text or a turn."""
    tokens, milliseconds, prompt = row["prompt_tokens"], row["milliseconds"], row.get("prompt")
    most = len(prompt.encode()) + SPECIAL_TOKENS if isinstance(prompt, str) else tokens
    return _is_count(tokens) and tokens <= most and milliseconds >= 0 and not str(milliseconds).startswith("-")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def prompts_are_the_items(evidence: Evidence) -> Answer:
    template = evidence.step("generate")["facts"].get("chat_template")
    return (
        _by_render(evidence) if template is None else by_chat_template(evidence, str(template), asked_items(evidence))
    )


def _by_render(evidence: Evidence) -> Answer:
    render = str(evidence.step("train_sft")["facts"]["render"])
    problems = []
    rows = {row["id"]: row for row in evidence.rows("predictions.jsonl")}
    without_texts = evidence.record["schema_version"] == 1  # rows had the digest alone
    for item in asked_items(evidence):
        row = rows[item.id]
        asked = None if row["text"] is None else render_prompt(render, item.prompt)
        if row["prompt_sha256"] != (None if asked is None else digest_text(asked)):
            problems.append(f"{item.id} was generated from another prompt")
        elif without_texts and "prompt" in row:
            problems.append(
                f"{item.id}: it has its prompt, as evidence of version 2 has, and the record says version 1"
            )
        elif not without_texts and row.get("prompt") != asked:
            problems.append(f"{item.id}: its prompt is not the text of prompt_sha256")
    return answer(problems, f"rendered by {render}")


def score_is_recomputed(evidence: Evidence) -> Answer:
    judged = judge(evidence)
    card = judged.card
    detail = f"{card.metric}: {card.primary_score:.4f}, recomputed on {card.n_items} items"
    return answer(differences(evidence, judged), detail)


def overlap_is_declared(evidence: Evidence) -> Answer:
    dataset = evidence.step("build_dataset")
    overlap, policy = dataset["facts"]["n_overlap"], dataset["with"]["on_overlap"]
    n_dropped = evidence.json("dataset_manifest.json")["lineage"]["n_dropped"]
    problems = []
    if overlap and policy != "keep" and not n_dropped:
        problems.append(f"{overlap} training rows overlap with the eval set, and the run-spec does not allow it")
    return answer(problems, f"dataset {dataset['facts']['dataset']}, overlap with the eval set: {overlap}")


def no_secret_is_packed(evidence: Evidence) -> Answer:
    """A verify.py whose bytes are the engine's own is not searched each time; that it has none, a test shows."""
    known = {VERIFY_PY} if not strange(evidence.bundle.files.get(VERIFY_PY)) else frozenset()
    searched = {name: data for name, data in evidence.bundle.files.items() if name not in known}
    return answer([f"{position}: {kind}" for position, kind in find_secrets(searched)], "none found by shape")


CHECKS: Sequence[tuple[str, str, Callable[[Evidence], Answer]]] = (
    ("V01", "names and contents are safe to read", names_are_safe),
    ("V02", "manifest-sha256.txt covers every file and nothing else", manifest_covers_all),
    ("V03", "evidence files follow their schemas", schemas_hold),
    ("V04", "no null without a reason, no placeholder", nothing_is_empty),
    ("V06", "the run-spec is the recorded one, declared = effective", spec_is_the_one),
    ("V07", "the commit is named", commit_is_named),
    ("V08", "times are in order", times_are_in_order),
    ("V09", "one prediction for each eval item, in order", ids_are_the_eval_sets),
    ("V10", "prompts are those of the eval items", prompts_are_the_items),
    ("V11", "scores recomputed from the predictions", score_is_recomputed),
    ("V13", "metrics: no gaps, the declared rates, and the report follows", metrics_follow),
    ("V17", "sessions of the platform are a chain", sessions_are_a_chain),
    ("V18", "the platform's output has the nonce and the digests", platform_has_the_digests),
    ("V19", "the notebook is named by its address", notebook_is_named),
    ("V20", "overlap with the eval set is declared", overlap_is_declared),
    ("V21", "no secret", no_secret_is_packed),
    ("V22", "the statement is of these files, and follows from the record", statement_is_of_these_files),
    ("V23", "signatures", signatures_fit),
    ("V25", "files rendered again from the record are the same bytes", files_are_rendered),
    ("V26", "the steps are a chain: each input is an output", steps_are_a_chain),
    ("V27", "facts follow from the files", facts_are_the_files),
    ("V28", "only files that the record names, as package writes them", only_named_files),
)
# Of a reader who ran a part again, which only the recorded machine's own libraries can do; for everybody else they are not in the list.
RERUN_CHECKS: Sequence[tuple[str, str, Callable[[Evidence], Answer]]] = (
    ("V29", "answers come out again", answers_come_out_again),
    ("V30", "train steps come out again", losses_come_out_again),
)
# Of a reader who has the weights.
WEIGHTS_CHECKS: Sequence[tuple[str, str, Callable[[Evidence], Answer]]] = (
    ("V31", "the weights are the recorded ones", weights_are_the_recorded),
    ("V32", "signature over the weights", weights_are_signed),
)


def run_check(function: Callable[[Evidence], Answer], evidence: Evidence) -> Answer:
    """Run one check; it fails where the evidence has the wrong shape for it."""
    try:
        return function(evidence)
    except Broken as error:
        return "fail", str(error)
    except NeedsEngine as error:
        return "n/a", f"needs the engine (runspec verify): a template has {error}"
    except RunspecError as error:
        return "fail", error.diagnostics[0].message
    except (RecursionError, MemoryError):  # their words say where Python was, not what is wrong
        return "fail", "a value is nested too deeply, or too large"
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        # A stranger's files can have a value of any type.
        return "fail", f"a value is missing or of the wrong kind: {type(error).__name__} {error}"


__all__ = ["CHECKS", "RERUN_CHECKS", "WEIGHTS_CHECKS", "Evidence", "run_check"]
