"""A finished run without JAX: artifacts written by hand, published by the real store, recorded by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.store import Artifact, Store
from engine.assets import asset
from engine.canonical import digest_bytes, digest_json, digest_text, jsonl_bytes, pretty_json
from engine.data import render_prompt
from engine.evidence import render_evidence
from engine.scoring import read_eval_set, read_predictions, result_summary_text, score

FILES = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")
ITEMS = [
    {"id": f"q{n}", "prompt": f"{n} + 1 = ?", "expected_answer": str(n + 1), "section": "core",
     "category": "addition", "difficulty": "easy" if n < 3 else "hard"} for n in range(5)
]  # fmt: skip
MODEL = "a" * 64
LIBRARIES = {"python": "3.11.7", "jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
SPEC = "version: 1\nrun_version: toy_v1\n"


class Factory:
    """Publishes one artifact after the other and keeps what later ones need."""

    def __init__(self, root: Path, args: Mapping[str, Any], on_duplicate: str) -> None:
        self.store, self.steps, self.made, self.args = Store(root), [], {}, args
        repeated = [] if on_duplicate == "fail" else [{**ITEMS[0], "id": "again"}]
        self.eval_text = jsonl_bytes([*ITEMS, *repeated]).decode()
        content = digest_text(self.eval_text)
        self.section = {"content": content, "on_duplicate": "drop"} if on_duplicate == "drop" else content
        self.asked = [*ITEMS, *(repeated if on_duplicate == "keep" else [])]

    def publish(
        self,
        step_id: str,
        uses: str,
        type_: str,
        files: dict[str, str],
        facts: dict[str, Any],
        takes: tuple[str, ...] = (),
    ) -> None:
        ingredients = {
            "kind": uses, "version": 1, "with": dict(self.args.get(step_id, {})),
            "inputs": {name: {"fingerprint": self.made[name].fingerprint, "content": self.made[name].digest} for name in takes},
            "spec": {"eval_set": self.section} if uses in ("score", "generate") else {},
        }  # fmt: skip
        fingerprint = digest_json(ingredients)
        staging = self.store.stage(fingerprint)
        for name, text in files.items():
            (staging.out / name).write_text(text, encoding="utf-8")
        second = len(self.steps)
        mark = {"type": type_, "kind": uses, "fingerprint": fingerprint, "facts": facts, "ingredients": ingredients,
                "started_at": f"2026-01-02T03:04:{second:02d}Z", "finished_at": f"2026-01-02T03:04:{second + 1:02d}Z"}  # fmt: skip
        artifact: Artifact = self.store.publish(staging, mark)
        self.made[type_] = artifact
        args = (
            {"on_overlap": "fail"} if uses == "build_dataset" else {"log_every_steps": 2} if uses == "train_sft" else {}
        )
        self.steps.append(StepRecord(step_id, uses, args, dict(args), artifact))


def build(
    root: Path,
    args: Mapping[str, Any] = MappingProxyType({}),
    changed_rows: Mapping[int, Mapping[str, Any]] | None = None,
    on_duplicate: str = "fail",
    frame: str = "",
    template: Mapping[str, str] | None = None,
    **report_changes: Any,
) -> RunRecord:
    """The whole run: five items, one wrong answer, four train steps. ``args``: step id -> arguments of its ingredients.

    ``changed_rows``: train step -> columns of its metrics. ``on_duplicate`` keep or drop: a sixth item repeats the first
    one's question. ``frame``, ``template``: what the model's chat template writes around a question, and the facts of
    the generate step about it.
    """
    factory = Factory(root, args, on_duplicate)
    manifest = pretty_json({"lineage": {"n_dropped": 0}})
    factory.publish("dataset", "build_dataset", "dataset", {"manifest.json": manifest, "rows.jsonl": "{}\n"},
                    {"dataset": "toy", "n_rows": 9, "n_duplicates": 1, "n_overlap": 0, "n_dropped": 0, "render": "plain@v1",
                     "manifest_sha256": digest_text(manifest)})  # fmt: skip
    metrics = [{"train_step": n, "loss": 1.0 / n, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": 9, "tokens_per_second": 90.0,
                "seconds": 0.1, **(changed_rows or {}).get(n, {})} for n in range(1, 5)]  # fmt: skip
    report = {"final_loss": 0.25, "num_train_steps": 4, "model_sha256": MODEL, "render": "plain@v1", "devices": ["cpu:0"], "platform": "cpu",
              "device_kind": "cpu", "libraries": LIBRARIES, "params": 3, "param_dtype": "float32", "n_rows": 9, "seq_len": 8,
              "real_token_share": 0.5, "tokens_trained": 36, "tokens_per_second": 90.0, "n_dropped": 0, "n_truncated": 0,
              "chat_template_sha256": digest_text("{{ bos_token }}{% for m in messages %}<u>{{ m.content | trim }}</u>{% endfor %}<a>"),
              **report_changes}  # fmt: skip
    factory.publish("train", "train_sft", "checkpoint",
                    {"metrics.jsonl": jsonl_bytes(metrics).decode(), "train_report.json": pretty_json(report)}, report, ("dataset",))  # fmt: skip
    raw = [{"id": item["id"], "prompt_sha256": digest_text(render_prompt("plain@v1", str(item["prompt"]))),
            "text": f"so\nAnswer: {item['expected_answer'] if item['id'] != 'q4' else 'no'}", "prompt_tokens": 5, "new_tokens": 4,
            "finish_reason": "eos", "milliseconds": 2.0} for item in factory.asked]  # fmt: skip
    if template:
        prompts = [frame.format(item["prompt"]) for item in factory.asked]
        raw = [
            {**row, "prompt": prompt, "prompt_sha256": digest_text(prompt)}
            for row, prompt in zip(raw, prompts, strict=True)
        ]
    generated = {
        **(template or {}),
        "n_items": 5,
        "new_tokens": 20,
        "tokens_per_second": 9.0,
        "model_sha256": MODEL,
        "platform": "cpu",
    }
    factory.publish(
        "predict",
        "generate",
        "predictions",
        {"predictions_raw.jsonl": jsonl_bytes(raw).decode()},
        generated,
        ("checkpoint",),
    )
    eval_set = root / "items.jsonl"
    eval_set.write_text(factory.eval_text, encoding="utf-8")
    asked = {item["id"] for item in factory.asked}
    rows, card = score([item for item in read_eval_set(eval_set) if item.id in asked],
                       read_predictions(factory.made["predictions"].file("predictions_raw.jsonl")), "answer_correctness@v1")  # fmt: skip
    facts = {name: card.as_json()[name] for name in ("metric", "primary_score", "n_items", "n_scored", "n_skipped")}
    facts |= {} if on_duplicate == "fail" else {"n_repeated_items": 1, "on_duplicate_item": on_duplicate}
    factory.publish("score", "score", "scorecard",
                    {"predictions.jsonl": jsonl_bytes(row.as_json() for row in rows).decode(), "scorecard.json": pretty_json(card.as_json())},
                    facts, ("predictions",))  # fmt: skip
    summary = {"model_id": "toy/model", "dataset": "toy", "eval_set": "items.jsonl", "primary_score": card.primary_score,
               "final_loss": 0.25, "n_items": len(factory.asked), "n_scored": len(factory.asked)}  # fmt: skip
    factory.publish("summary", "result_summary", "summary",
                    {"summary.json": pretty_json(summary), "summary.txt": result_summary_text(summary)}, summary, ("checkpoint", "scorecard"))  # fmt: skip
    environment = {"engine": "0.1.0", "python": "3.11.7", "implementation": "cpython", "platform": "Linux x86_64", "cpu_count": 2,
                   "libraries": {}, "commit_sha": "1" * 40, "commit_dirty": False, "diff_sha256": None, "kaggle": None}  # fmt: skip
    return RunRecord(
        run_version="toy_v1", notes="a note", spec_path="runspecs/toy.yaml", spec_bytes=SPEC.encode(), spec_digest=digest_bytes(SPEC.encode()),
        overrides={}, command="runspec run runspecs/toy.yaml", model_id="toy/model", model_revision=None, dataset="toy",
        eval_set="items.jsonl", eval_set_bytes=factory.eval_text.encode(), device="auto", environment=environment,
        started_at=factory.steps[0].artifact.started_at, finished_at=factory.steps[-1].artifact.finished_at, steps=tuple(factory.steps),
    )  # fmt: skip


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., RunRecord]:
    """:func:`build` in the test's folder."""
    return lambda **changes: build(tmp_path, **changes)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A finished run of five steps."""
    return build(tmp_path)


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., Path]:
    """``render(record)`` -> the evidence folder; keyword arguments change the record first."""

    def call(
        record: RunRecord, *, files: tuple[str, ...] = FILES, templates: Path | None = None, **changes: Any
    ) -> Path:
        folder = tmp_path / "submission_runs" / "toy_v1"
        dirs = [asset("templates")] if templates is None else [templates, asset("templates")]
        render_evidence(replace(record, **changes), files, folder, template_dirs=dirs)
        return folder

    return call


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Write manifest-sha256.txt again, as a forger would."""

    def call(folder: Path) -> None:
        names = sorted(path.name for path in folder.iterdir() if path.name != "manifest-sha256.txt")
        lines = [f"{digest_bytes((folder / name).read_bytes())}  {name}\n" for name in names]
        (folder / "manifest-sha256.txt").write_text("".join(lines))

    return call


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], None]], None]:
    """Change a JSON file through a function."""

    def call(path: Path, change: Callable[[Any], None]) -> None:
        value = json.loads(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(pretty_json(value), encoding="utf-8")

    return call
