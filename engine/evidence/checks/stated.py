"""What the run states and nobody checks: the fields of the evidence that no other field shows, by name.

In: nothing. Out: :data:`STATED`, which ``runspec verify --explain`` prints, and :func:`is_stated`, with which a test holds the
list to be complete: every other value, changed with all digests redone and all files rendered again, is found by a check.

    >>> is_stated("metrics.jsonl", "3.loss"), is_stated("eval_summary.json", "primary_score")
    (True, False)
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple


class Stated(NamedTuple):
    """Fields of one file (a pattern each) and what they are, in a reader's words."""

    file: str
    fields: tuple[str, ...]
    what: str


STATED: Sequence[Stated] = (
    Stated("run_record.json", ("started_at", "finished_at", "steps.*.started_at", "steps.*.finished_at"), "when it ran, in order"),
    Stated(
        "run_record.json", ("environment.*", "spec_path", "steps.*.facts.clock", "steps.*.facts.platform"),
        "the machine, its clock, the engine's version, the commit, the notebook, the run-spec's folder",
    ),
    Stated(
        "run_record.json", ("steps.*.files.*", "steps.*.facts.dataset_commit", "steps.*.ingredients.environment.*", "steps.*.ingredients.spec.model.content",
                            "steps.*.ingredients.spec.dataset.*", "model_revision", "steps.*.facts.model_commit", "steps.*.facts.model_kaggle.files.*", "steps.*.facts.model_kaggle.place"),
        "digests of files that are not here (weights, rows), versions of libraries and builders, commits of the hub",
    ),
    Stated("run_record.json", ("sessions.*", "steps.*.facts.sessions.*"),
           "how the training run was divided into sessions, when and where each ran, digests of checkpoints that are not here; they are a chain"),
    Stated("dataset_manifest.json", ("stats.*", "lineage.*", "trace_ids.*", "provenance.purpose", "render", "source_sha256"),
           "the rows: their lengths, ids and repetitions, which agree with each other; they are not in the evidence"),
    Stated("smoke_report.json", ("proved*", "not_proved*", "killed_at", "resumed_from"), "what the smoke run proved"),
    Stated("metrics.jsonl", ("*.loss", "*.grad_norm", "*.tokens", "*.tokens_per_second", "*.seconds", "*.input_wait_seconds", "*.eval_loss", "*_bytes*", "*.warm_up"),
           "losses, tokens and times of the train steps, which agree with each other; the last loss is that of the summary"),
    Stated(
        "train_report.json",
        ("devices*", "platform", "device_kind", "allocator*", "topology.processes", "topology.mesh*", "moves*", "matmul_dtype", "model_flops_per_token",
         "peak_*", "process_peak_bytes", "not_applicable*", "n_dropped*", "n_boundary_merges", "real_token_share", "longest_row_tokens",
         "rendered_by", "libraries.*", "sessions.*", "embedding_rows_cut", "model_kaggle.files.*", "model_kaggle.place"),
        "the devices and their figures, versions, and lengths of rows",
    ),
    Stated("predictions.jsonl", ("*.text", "*.prompt_tokens", "*.new_tokens", "*.finish_reason", "*.milliseconds"), "what the model answered, and how long it took"),
    Stated("platform.json", ("notebook_url", "notebook_version", "run_id"), "what the platform is said to have named the run (V19 compares it with a version that the reader fetched)"),
    Stated("eval_set.jsonl", ("*",), "questions and expected answers: whether they are the published ones"),
)  # fmt: skip


def is_stated(file: str, field: str) -> bool:
    """Whether a field is on the list."""
    return any(entry.file == file and any(fnmatchcase(field, pattern) for pattern in entry.fields) for entry in STATED)


def explained(worded_by_author: Sequence[str] = ()) -> list[str]:
    """The list as lines: file, what it is; then the files of this evidence that a template of its author's own words."""
    lines = [f"{entry.file}: {entry.what} ({', '.join(entry.fields)})" for entry in STATED]
    return lines + [f"{name}: its sentences, which the author's own template words" for name in worded_by_author]
