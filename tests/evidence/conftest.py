"""A finished run without JAX: artifacts written by hand, published by the real store, recorded by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.store import Artifact, Store
from engine.assets import asset
from engine.canonical import digest_bytes, digest_json, digest_text, jsonl_bytes, pretty_json
from engine.data import DatasetSource, prepare, render_prompt, trace_rows, write_dataset
from engine.data import build as build_traces
from engine.evidence import package, render_evidence
from engine.evidence.signing.private_keys import SigningKey, read_signing_key
from engine.pipeline.plan import without_tracking
from engine.pipeline.section_digests import declared_dataset, declared_model
from engine.runspec import load_recorded
from engine.runspec.model import Spec
from engine.scoring import read_eval_set, read_predictions, result_summary_text, score
from engine.steps.registry import handlers
from tests.fixtures.training import metrics_rows, train_report

PARAMS = 2552  # of CONFIG, counted by hand: 260 * 8 + 8 * 8 * (4 + 3) + 3 * 8
FILES = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")
ITEMS = [
    {"id": f"q{n}", "prompt": f"{n} + 1 = ?", "expected_answer": str(n + 1), "section": "core",
     "category": "addition", "difficulty": "easy" if n < 3 else "hard"} for n in range(5)
]  # fmt: skip
MODEL_FILES = {"model/config.json": "{}\n", "model/model.safetensors": "weights"}
MODEL = digest_json({name.removeprefix("model/"): digest_text(text) for name, text in MODEL_FILES.items()})
USED = {"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
LIBRARIES = {"python": "3.11.7", **USED}
CONFIG = {"model_type": "gemma", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
          "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}  # fmt: skip
ARGS: Mapping[str, Mapping[str, Any]] = {
    "dataset": {"seed": 42},
    "train": {
        "num_train_steps": 4,
        "seq_len": 8,
        "learning_rate": 1e-3,
        "lr_schedule": "constant",
        "warmup_steps": 0,
        "per_device_batch_size": 2,
        "log_every_steps": 2,
    },
    "score": {"metric": "answer_correctness@v1"},
}
USES = {
    "dataset": "build_dataset",
    "train": "train_sft",
    "predict": "generate",
    "score": "score",
    "summary": "result_summary",
}
COMMAND = "runspec run runspecs/toy.yaml"


def spec_text(args: Mapping[str, Any] = MappingProxyType({}), on_duplicate: str = "fail") -> str:
    """The run-spec, as JSON, which is YAML; ``args``: step id -> arguments besides those of :data:`ARGS`."""
    eval_set: Any = "items.jsonl" if on_duplicate == "fail" else {"path": "items.jsonl", "on_duplicate": on_duplicate}
    steps = [
        {"id": id_, "uses": uses, "with": {**ARGS.get(id_, {}), **args.get(id_, {})}} for id_, uses in USES.items()
    ]
    return pretty_json({
        "version": 1, "run_version": "toy_v1", "notes": "a note", "dataset": "toy", "eval_set": eval_set, "steps": steps,
        "model": {"id": "toy/model", "init": "random", "tokenizer": "chars", "config": CONFIG}, "package": {"name": "toy"},
    })  # fmt: skip


def toy_spec(args: Mapping[str, Any] = MappingProxyType({}), on_duplicate: str = "fail") -> Spec:
    """The same, read."""
    return load_recorded(spec_text(args, on_duplicate).encode(), "toy.yaml", [], kinds=handlers())


class Factory:
    """Publishes one artifact after the other and keeps what later ones need."""

    def __init__(self, root: Path, spec: Spec) -> None:
        self.store, self.steps, self.made, self.spec = Store(root), [], {}, spec
        repeated = [] if spec.on_duplicate_item == "fail" else [{**ITEMS[0], "id": "again"}]
        self.eval_text = jsonl_bytes([*ITEMS, *repeated]).decode()
        content = digest_text(self.eval_text)
        drops = spec.on_duplicate_item == "drop"
        self.sections = {
            "model": {"declared": declared_model(spec), "content": None},
            "dataset": {"declared": declared_dataset(spec), "content": None, "builder": "1.0"},
            "eval_set": {"content": content, "on_duplicate": "drop"} if drops else content,
            "device": "auto",
        }
        self.asked = [*ITEMS, *([] if drops else repeated)]

    def publish(self, step_id: str, files: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """The step's artifact, with the ingredients that the pipeline gives it."""
        step, handler = self.spec.step(step_id), handlers()[USES[step_id]]
        ingredients = {
            "kind": handler.kind, "version": handler.version, "with": without_tracking(step.args, handler.schema),
            "inputs": {type_: {"fingerprint": self.made[type_].fingerprint, "content": self.made[type_].digest} for type_ in handler.takes},
            "spec": {section: self.sections[section] for section in handler.reads}, "ahead": {},
            "environment": USED if handler.needs_extra else {},
        }  # fmt: skip
        fingerprint = digest_json(ingredients)
        staging = self.store.stage(fingerprint)
        for name, text in files.items():
            (staging.out / name).parent.mkdir(exist_ok=True)
            (staging.out / name).write_text(text, encoding="utf-8")
        second = len(self.steps)
        mark = {"type": handler.makes, "kind": handler.kind, "fingerprint": fingerprint, "facts": dict(facts), "ingredients": ingredients,
                "started_at": f"2026-01-02T03:04:{second:02d}Z", "finished_at": f"2026-01-02T03:04:{second + 1:02d}Z"}  # fmt: skip
        artifact: Artifact = self.store.publish(staging, mark, handler.measured)
        self.made[handler.makes] = artifact
        self.steps.append(StepRecord(step_id, handler.kind, dict(step.args), dict(step.declared), artifact))


def _publish_dataset(factory: Factory, out: Path) -> str:
    """Nine rows, one of which repeats an earlier prompt; returns their render."""
    rows = list(trace_rows(build_traces("quickstart-reasoning", seed=42, num_rows=9)))
    twice = [*rows[:8], replace(rows[8], body=rows[0].body)]
    source = DatasetSource(dataset="toy", format="trace", version="1.0", seed=42, builder="toy")
    written = write_dataset(out, prepare(twice, []), source=source)
    files = {name: (out / name).read_text() for name in ("manifest.json", "rows.jsonl", "dataset.jsonl")}
    factory.publish("dataset", files, written.facts)
    return str(written.facts["render"])


def build(
    root: Path,
    args: Mapping[str, Any] = MappingProxyType({}),
    changed_rows: Mapping[int, Mapping[str, Any]] | None = None,
    on_duplicate: str = "fail",
    frame: str = "",
    template: Mapping[str, str] | None = None,
    **report_changes: Any,
) -> RunRecord:
    """The whole run: five items, one wrong answer, four train steps. ``args``: step id -> arguments in the run-spec.

    ``changed_rows``: train step -> columns of its metrics. ``on_duplicate`` keep or drop: a sixth item repeats the first
    one's question. ``frame``, ``template``: what the model's chat template writes around a question, and the facts of
    the generate step about it.
    """
    spec = toy_spec(args, on_duplicate)
    factory = Factory(root, spec)
    render = _publish_dataset(factory, root / "built")
    args = dict(spec.step("train").args)
    metrics = [{**row, **(changed_rows or {}).get(row["train_step"], {})} for row in metrics_rows(args)]
    report = train_report(args, metrics, model_sha256=MODEL, render=render, params=PARAMS, n_rows=9, libraries=LIBRARIES,
                          chat_template_sha256=digest_text(CHAT_TEMPLATE) if template else None, **report_changes)  # fmt: skip
    factory.publish(
        "train",
        {**MODEL_FILES, "metrics.jsonl": jsonl_bytes(metrics).decode(), "train_report.json": pretty_json(report)},
        report,
    )
    prompts = [
        frame.format(item["prompt"]) if template else render_prompt(render, str(item["prompt"]))
        for item in factory.asked
    ]
    raw = [{"id": item["id"], "prompt_sha256": digest_text(prompt), "prompt": prompt,
            "text": f"so\nAnswer: {item['expected_answer'] if item['id'] != 'q4' else 'no'}", "prompt_tokens": 5, "new_tokens": 4,
            "finish_reason": "eos", "milliseconds": 2.0} for item, prompt in zip(factory.asked, prompts, strict=True)]  # fmt: skip
    generated = {"n_items": len(raw), "new_tokens": 4 * len(raw), "tokens_per_second": 2000.0, "finish_reasons": {"eos": len(raw)},
                 "model_sha256": MODEL, "chat_template_sha256": None, "chat_template": None, "platform": "cpu", "weights": "float32", **(template or {})}  # fmt: skip
    factory.publish(
        "predict",
        {"predictions_raw.jsonl": jsonl_bytes(raw).decode(), "generate_report.json": pretty_json(generated)},
        generated,
    )
    eval_set = root / "items.jsonl"
    eval_set.write_text(factory.eval_text, encoding="utf-8")
    asked = {item["id"] for item in factory.asked}
    rows, card = score([item for item in read_eval_set(eval_set) if item.id in asked],
                       read_predictions(factory.made["predictions"].file("predictions_raw.jsonl")), "answer_correctness@v1")  # fmt: skip
    facts = {name: card.as_json()[name] for name in ("metric", "primary_score", "n_items", "n_scored", "n_skipped")}
    facts |= (
        {"n_repeated_items": 0}
        if on_duplicate == "fail"
        else {"n_repeated_items": 1, "on_duplicate_item": on_duplicate}
    )
    factory.publish("score", {"predictions.jsonl": jsonl_bytes(row.as_json() for row in rows).decode(),
                              "scorecard.json": pretty_json(card.as_json())}, facts)  # fmt: skip
    summary = {"model_id": "toy/model", "dataset": "toy", "eval_set": "items.jsonl", "primary_score": card.primary_score,
               "final_loss": 0.25, "n_items": len(factory.asked), "n_scored": len(factory.asked)}  # fmt: skip
    factory.publish(
        "summary", {"summary.json": pretty_json(summary), "summary.txt": result_summary_text(summary)}, summary
    )
    environment = {"engine": "0.1.0", "python": "3.11.7", "implementation": "cpython", "platform": "Linux x86_64", "cpu_count": 2,
                   "libraries": USED, "commit_sha": "1" * 40, "commit_dirty": False, "diff_sha256": None, "kaggle": None}  # fmt: skip
    return RunRecord(
        run_version="toy_v1", notes="a note", spec_path="runspecs/toy.yaml", spec_bytes=spec.data, spec_digest=spec.digest,
        overrides={}, command=COMMAND, model_id="toy/model", model_revision=None, dataset="toy",
        eval_set="items.jsonl", eval_set_bytes=factory.eval_text.encode(), device="auto", environment=environment,
        started_at=factory.steps[0].artifact.started_at, finished_at=factory.steps[-1].artifact.finished_at, steps=tuple(factory.steps),
    )  # fmt: skip


CHAT_TEMPLATE = "{{ bos_token }}{% for m in messages %}<u>{{ m.content | trim }}</u>{% endfor %}<a>"


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


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[str], Path]:
    """``key_file(name)`` -> a new private key, PEM."""

    def call(name: str) -> Path:
        path = tmp_path / name
        key = Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        return path

    return call


@pytest.fixture
def ann(key_file: Any) -> SigningKey:
    """Somebody's key."""
    return read_signing_key(key_file("ann.pem"))


@pytest.fixture
def folder(record: RunRecord, render: Any) -> Path:
    """A good evidence folder."""
    path: Path = render(record)
    return path


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    """The zip of it."""
    return package(folder, tmp_path / "submission", "toy")
