"""A checked tree -> :class:`Spec`: defaults filled in, numbers in the form the schema names.

>>> fill({"properties": {"rate": {"type": "number", "default": 1.0}, "seed": {"type": "integer"}}}, {"seed": 4.0})
{'rate': 1.0, 'seed': 4}
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from engine.canonical import JsonObject, digest_bytes
from engine.protocol.kaggle_models import parse_kaggle_model
from engine.runspec.kinds import Kinds, Schema, base_schema, properties
from engine.runspec.model import (
    DatasetSpec,
    EvidenceSpec,
    LaunchSpec,
    ModelSpec,
    Override,
    PackageSpec,
    SessionSpec,
    Spec,
    StepSpec,
    default_evidence_dir,
)
from engine.runspec.nodes import Mapping, at, plain


def fill(schema: Schema, values: JsonObject) -> JsonObject:
    """The values in the schema's order with every default filled in; nothing is shared with either argument.

    ``learning_rate: 1`` becomes 1.0 and ``num_train_steps: 1e3`` becomes 1000, so that equal specs are equal bytes.
    """
    filled: JsonObject = {}
    for key, entry in properties(schema).items():
        if key in values:
            filled[key] = _typed(entry, values[key])
        elif "default" in entry:
            filled[key] = _typed(entry, copy.deepcopy(entry["default"]))
    return {**filled, **{key: copy.deepcopy(value) for key, value in values.items() if key not in filled}}


def _typed(schema: Schema, value: Any) -> Any:
    types = schema.get("type", [])
    if isinstance(value, dict):
        return fill(schema, value)
    if isinstance(value, list):
        items = schema.get("items")
        return [_typed(items, item) if isinstance(items, dict) else copy.deepcopy(item) for item in value]
    if isinstance(value, float) and "integer" in types and "number" not in types and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and "number" in types and "integer" not in types:
        return float(value)
    return value


SCHEDULERS = ("slurm", "skypilot", "jobset")  # each has a mapping of that name in the launch section


def make_spec(
    *, path: Path, root: Path, data: bytes, written: Mapping, tree: Mapping, overrides: list[Override], kinds: Kinds
) -> Spec:
    """``written`` is the file's tree, ``tree`` the same after the overrides; both have passed every check."""
    filled = fill(base_schema(), plain(tree))
    run_version, eval_set = filled["run_version"], filled["eval_set"]
    return Spec(
        version=filled["version"],
        run_version=run_version,
        notes=filled["notes"],
        device=filled["device"],
        allocator=filled.get("allocator"),
        model=_model(plain(tree)["model"], filled["model"]),
        dataset=_dataset(filled["dataset"]),
        eval_set=eval_set if isinstance(eval_set, str) else eval_set["path"],
        on_duplicate_item="fail" if isinstance(eval_set, str) else eval_set["on_duplicate"],
        steps=tuple(_step(index, written, tree, kinds) for index in range(len(filled["steps"]))),
        evidence=EvidenceSpec(
            filled["evidence"].get("dir", default_evidence_dir(run_version)), tuple(filled["evidence"]["files"])
        ),
        package=PackageSpec(filled["package"].get("name", run_version), filled["package"]["dir"]),
        path=path,
        root=root,
        data=data,
        digest=digest_bytes(data),
        overrides=tuple(overrides),
        session=SessionSpec(**filled["session"]),
        launch=_launch(filled["launch"]) if "launch" in filled else None,
    )


def _model(written: JsonObject, filled: JsonObject) -> ModelSpec:
    """Leaves out defaults that belong to the other ``init`` (a random model has no revision). Kaggle's name in one spelling."""
    known = {key: value for key, value in filled.items() if key in written or key in ("id", "init")}
    if known.get("kaggle"):
        known["kaggle"] = str(parse_kaggle_model(known["kaggle"]))
        known.setdefault("id", known["kaggle"])
    return ModelSpec(**known)


def _dataset(value: str | JsonObject) -> DatasetSpec:
    if isinstance(value, str):
        return DatasetSpec(name=value)
    keys = value if "hub" in value else {key: entry for key, entry in value.items() if key not in ("revision", "split")}
    return DatasetSpec(**keys)


def _launch(data: JsonObject) -> LaunchSpec:
    """The keys that all schedulers share, and those of each scheduler."""
    lists = ("setup", "environment", "secrets")
    shared: JsonObject = {
        key: tuple(value) if key in lists else value for key, value in data.items() if key not in SCHEDULERS
    }
    return LaunchSpec(**shared, own={name: data[name] for name in SCHEDULERS})


def _step(index: int, written: Mapping, tree: Mapping, kinds: Kinds) -> StepSpec:
    node, before = at(tree, ["steps", index]), at(written, ["steps", index, "with"])
    assert isinstance(node, Mapping)
    value = plain(node)
    needs = value.get("needs")
    return StepSpec(
        id=value["id"],
        uses=value["uses"],
        args=fill(kinds[value["uses"]].schema, value.get("with", {})),
        declared=plain(before) if before is not None else {},
        needs=tuple(needs) if needs is not None else None,
        where=node.position.where(f"steps.{value['id']}"),
    )
