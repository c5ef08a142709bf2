"""What no schema can say: how the steps fit together, paths, and keys that contradict each other.

Each check takes a :class:`Case` and yields findings; it looks only at values that the schemas have passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Diagnostic, did_you_mean
from engine.spec.kinds import Kinds
from engine.spec.reader import Document, SpecPath
from engine.spec.schema import fill_defaults

MODELINE = "# yaml-language-server: $schema="


@dataclass(frozen=True, slots=True)
class Case:
    """A document under check. ``builders`` and ``metrics`` are names, or None where nobody said them."""

    document: Document
    kinds: Kinds
    root: Path
    builders: Collection[str] | None
    metrics: Collection[str] | None

    @property
    def data(self) -> dict[str, Any]:
        """The values."""
        return self.document.data

    @property
    def steps(self) -> list[tuple[int, dict[str, Any]]]:
        """The steps that are mappings with an id and a kind, beside their index."""
        steps = self.data.get("steps")
        return [
            (index, step)
            for index, step in enumerate(steps if isinstance(steps, list) else [])
            if isinstance(step, dict) and isinstance(step.get("id"), str) and isinstance(step.get("uses"), str)
        ]

    def find(
        self, code: str, message: str, path: SpecPath, hint: str | None = None, *, key: bool = False
    ) -> Diagnostic:
        """An error at a path."""
        return Diagnostic(code, message, self.document.where(path, key=key), hint)

    def warn(self, code: str, message: str, path: SpecPath, hint: str | None = None) -> Diagnostic:
        """A warning at a path."""
        return Diagnostic(code, message, self.document.where(path), hint, "warning")

    def args(self, step: dict[str, Any]) -> dict[str, Any]:
        """Effective arguments; {} where the kind is unknown or ``with`` is no mapping."""
        kind, given = self.kinds.get(str(step.get("uses"))), step.get("with", {})
        return fill_defaults(given, kind.schema) if kind and isinstance(given, dict) else {}


def check_together(case: Case) -> list[Diagnostic]:
    """All findings of all checks."""
    return [finding for check in CHECKS for finding in check(case)]


def _uses(case: Case) -> Iterator[Diagnostic]:
    for index, step in case.steps:
        uses = step["uses"]
        if uses not in case.kinds:
            near = did_you_mean(uses, case.kinds)
            known = ", ".join(sorted(case.kinds))
            hint = (
                f'did you mean "{near}"? Known: {known}'
                if near
                else f"known: {known}\na plug-in package may bring more"
            )
            yield case.find("S201", f'there is no kind of step "{uses}"', ("steps", index, "uses"), hint)


def _ids(case: Case) -> Iterator[Diagnostic]:
    first: dict[str, int] = {}
    for index, step in case.steps:
        step_id = step["id"]
        if step_id in first:
            line = case.document.where(("steps", first[step_id], "id")).line
            yield case.find(
                "S202",
                f'two steps have the id "{step_id}"',
                ("steps", index, "id"),
                f"the first is on line {line}; give this one another id",
            )
        first.setdefault(step_id, index)


def _needs(case: Case) -> Iterator[Diagnostic]:
    ids = [step["id"] for _, step in case.steps]
    for place, (index, step) in enumerate(case.steps):
        needs = step.get("needs")
        for number, name in enumerate(needs if isinstance(needs, list) else []):
            if name in ids[:place] or not isinstance(name, str):
                continue
            path: SpecPath = ("steps", index, "needs", number)
            if name == step["id"]:
                yield case.find("S204", f'step "{name}" needs itself', path, "take it out")
            elif name in ids:
                yield case.find(
                    "S204",
                    f'step "{step["id"]}" needs "{name}", which comes later',
                    path,
                    "steps run from top to bottom: move it up",
                )
            else:
                near = did_you_mean(name, ids[:place])
                hint = f'did you mean "{near}"?' if near else f"earlier steps: {', '.join(ids[:place]) or 'none'}"
                yield case.find("S203", f'step "{step["id"]}" needs "{name}", which is no step', path, hint)


def _inputs(case: Case) -> Iterator[Diagnostic]:
    made: set[str] = set()
    for index, step in case.steps:
        kind = case.kinds.get(str(step.get("uses")))
        if kind is None:
            return  # what an unknown kind makes is unknown
        for type_ in kind.takes:
            if type_ not in made:
                makers = " or ".join(sorted(name for name, other in case.kinds.items() if other.makes == type_))
                hint = f"put a {makers} step before it" if makers else "no kind of step makes that"
                yield case.find(
                    "S205",
                    f'step "{step["id"]}" takes a {type_}, and no earlier step makes one',
                    ("steps", index, "uses"),
                    hint,
                )
        made.add(kind.makes)


def _dataset(case: Case) -> Iterator[Diagnostic]:
    dataset = case.data.get("dataset")
    if isinstance(dataset, str):
        if case.builders is not None and dataset not in case.builders:
            near = did_you_mean(dataset, case.builders)
            hint = f'did you mean "{near}"?' if near else f"builders: {', '.join(sorted(case.builders))}"
            yield case.find(
                "S306",
                f'there is no dataset "{dataset}"',
                ("dataset",),
                f"{hint}\na file of your own: dataset: {{path: data/rows.jsonl, format: trace}}",
            )
        return
    if not isinstance(dataset, dict):
        return
    if "path" not in dataset and "hub" not in dataset:
        yield case.find(
            "S305",
            "the dataset names neither a path nor a hub repository",
            ("dataset",),
            "write dataset: NAME for a builder, or {path: …}, or {hub: owner/name, revision: …}",
        )
    for key in ("revision", "split"):
        if key in dataset and "hub" not in dataset:
            yield case.find(
                "S305",
                f'"{key}" of the dataset means something for a hub repository only',
                ("dataset", key),
                "take it out, or name the repository with hub:",
                key=True,
            )
    names = {
        "trace": ("prompt", "steps", "final_answer"),
        "prompt_completion": ("prompt", "completion"),
        "chat": ("messages", "role", "content"),
    }
    known = names.get(str(dataset.get("format", "trace")), ())
    fields = dataset.get("fields")
    for key in fields if isinstance(fields, dict) else ():
        if known and key not in known:
            near = did_you_mean(key, known)
            yield case.find(
                "S305",
                f'rows of this format have no field "{key}"',
                ("dataset", "fields", key),
                f'did you mean "{near}"?' if near else f"fields: {', '.join(known)}",
                key=True,
            )


def _model(case: Case) -> Iterator[Diagnostic]:
    model = case.data.get("model")
    if not isinstance(model, dict):
        return
    random = model.get("init") == "random"
    for key in ("config", "tokenizer"):
        if random and key not in model:
            yield case.find(
                "S308",
                f'a model with init: random needs "{key}"',
                ("model",),
                "config: {model_type: gemma, hidden_size: 128, …}" if key == "config" else "add tokenizer: chars",
            )
        if not random and key in model:
            yield case.find(
                "S307",
                f'"{key}" of the model is for init: random only',
                ("model", key),
                "pretrained weights bring their own; take it out, or add init: random",
                key=True,
            )
    for key in ("revision", "path"):
        if random and key in model:
            yield case.find(
                "S307",
                f'"{key}" of the model is for pretrained weights',
                ("model", key),
                "weights drawn at random come from nowhere: take it out",
                key=True,
            )
    config = model.get("config")
    if isinstance(config, dict):
        yield from _config(case, config)


def _config(case: Case, config: dict[str, Any]) -> Iterator[Diagnostic]:
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv_heads, int) and kv_heads > 0 and heads % kv_heads:
        yield case.find(
            "S310",
            f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}",
            ("model", "config", "num_attention_heads"),
            "each key-value head serves equally many heads",
        )
    head_dim = config.get("head_dim")
    if isinstance(head_dim, int) and head_dim % 2:
        yield case.find(
            "S310",
            f"head_dim {head_dim} is odd",
            ("model", "config", "head_dim"),
            "rotary positions turn pairs of dimensions: make it even",
        )
    limit = config.get("max_position_embeddings")
    for index, step in case.steps:
        length = case.args(step).get("seq_len")
        if isinstance(limit, int) and isinstance(length, int) and length > limit:
            yield case.find(
                "S314",
                f'seq_len {length} of step "{step["id"]}" is more than the model\'s max_position_embeddings {limit}',
                ("steps", index, "with", "seq_len"),
                "lower seq_len, or give the model more positions",
            )


def _training(case: Case) -> Iterator[Diagnostic]:
    for index, step in case.steps:
        args = case.args(step)
        if step.get("uses") != "train_sft" or not isinstance(args.get("num_train_steps"), int):
            continue
        warmup, steps = args["warmup_steps"], args["num_train_steps"]
        path: SpecPath = ("steps", index, "with", "warmup_steps")
        if isinstance(warmup, int) and 0 < steps <= warmup:
            yield case.find(
                "S311",
                f"warmup_steps {warmup} leaves none of {steps} train steps",
                path,
                "the rate would never reach its peak: lower warmup_steps",
            )
        rate = args["learning_rate"]
        if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0 and not 1e-7 <= rate <= 2e-2:
            yield case.warn(
                "S312",
                f"learning_rate {rate} is unusual: training rarely works outside 1e-7 to 2e-2",
                ("steps", index, "with", "learning_rate"),
                "check the exponent",
            )


def _smoke(case: Case) -> Iterator[Diagnostic]:
    for place, (index, step) in enumerate(case.steps):
        kind = case.kinds.get(str(step.get("uses")))
        if kind is None or "train_sft" not in kind.looks_ahead:
            continue
        later = [other.get("uses") for _, other in case.steps[place + 1 :]]
        if any(uses not in case.kinds for uses in later):
            continue  # one of these may have been meant
        for wanted in kind.looks_ahead:
            if wanted not in later and wanted in ("train_sft", "generate"):
                yield case.find(
                    "S315",
                    f'step "{step["id"]}" proves a later {wanted} step, and there is none',
                    ("steps", index, "uses"),
                    f"put it before the {wanted} step",
                )


def _metric(case: Case) -> Iterator[Diagnostic]:
    for index, step in case.steps:
        metric = case.args(step).get("metric")
        if case.metrics is not None and isinstance(metric, str) and metric not in case.metrics:
            near = did_you_mean(metric, case.metrics)
            hint = f'did you mean "{near}"?' if near else f"metrics: {', '.join(sorted(case.metrics))}"
            yield case.find("S309", f'there is no metric "{metric}"', ("steps", index, "with", "metric"), hint)


def _paths(case: Case) -> Iterator[Diagnostic]:
    for path, must_exist in (
        (("eval_set",), True),
        (("dataset", "path"), True),
        (("model", "path"), True),
        (("evidence", "dir"), False),
        (("package", "dir"), False),
    ):
        value: Any = case.data
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value:
            continue
        dataset = case.data.get("dataset")
        if path == ("dataset", "path") and isinstance(dataset, dict) and "hub" in dataset:
            continue  # a path inside the repository
        yield from _path(case, path, value, must_exist)


def _path(case: Case, path: SpecPath, value: str, must_exist: bool) -> Iterator[Diagnostic]:
    name = ".".join(map(str, path))
    if Path(value).is_absolute() or value.startswith("~"):
        yield case.find(
            "S302",
            f"{name} is an absolute path",
            path,
            f"write it relative to the project folder {case.root.name}/: others must be able to run this",
        )
        return
    root, target = case.root.resolve(), (case.root / value).resolve()
    if not target.is_relative_to(root):
        yield case.find(
            "S301",
            f"{name} leaves the project: {os.path.normpath(value)}",
            path,
            "a run reads and writes inside its project only; copy what it needs into it",
        )
    elif not must_exist and target == root:
        yield case.find("S304", f"{name} is the project folder itself", path, "name a folder inside it")
    elif must_exist and not target.exists():
        parent = target.parent
        near = did_you_mean(target.name, [entry.name for entry in parent.iterdir()]) if parent.is_dir() else None
        hint = (
            f"did you mean {Path(value).with_name(near)}?"
            if near
            else f"paths are relative to the project, {root.name}/"
        )
        yield case.find("S303", f"{name}: there is no {value}", path, hint)
    elif must_exist and path[0] != "model" and not target.is_file():
        yield case.find("S303", f"{name}: {value} is a folder, not a file", path, "name the .jsonl file in it")
    elif not must_exist and target.is_file():
        yield case.find("S303", f"{name}: {value} is a file, not a folder", path, "name a folder")


def _modeline(case: Case) -> Iterator[Diagnostic]:
    if MODELINE not in case.document.text:
        yield case.warn(
            "S313",
            "the line that tells editors the schema is missing",
            (),
            f"add as the first line: {MODELINE}../schemas/runspec.schema.json",
        )


CHECKS: tuple[Callable[[Case], Iterator[Diagnostic]], ...] = (
    _uses,
    _ids,
    _needs,
    _inputs,
    _dataset,
    _model,
    _training,
    _smoke,
    _metric,
    _paths,
    _modeline,
)
