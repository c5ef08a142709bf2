"""A new model family with missing parts gets a list of all of them (CONTRIBUTING, "A model family")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.model_config import CONFIGS
from engine.model_config.shapes import FAMILY_NORMS
from engine.trainer.models import FAMILIES

PARTS = ("CONFIG", "MODEL", "TABLE", "HF_NAMES", "weight_shapes", "init_weights", "param_count")
CONFIG_PARTS = ("NAME", "MODEL_TYPE", "ARCHITECTURE", "FIXED", "DEFAULT_SIZES")


def forgotten(families: Mapping[str, ModuleType], held: ModuleType, golden: set[str], spec: set[str]) -> Iterator[str]:
    """One sentence for each thing that is missing; ``held`` is kinds.py, ``spec`` the families that a run-spec can name."""
    for key, family in families.items():
        parts = list(_parts(family))
        yield from parts
        if key not in CONFIGS:
            yield f"engine/model_config/__init__.py: CONFIGS has no line for {key}: its config.json cannot be read"
        if key not in FAMILY_NORMS:
            yield f"engine/preflight/analytic.py: FAMILY_NORMS has no line for {key}: plan cannot price it"
        if parts:
            continue
        model_type = family.CONFIG.MODEL_TYPE
        if families.get(model_type) is not family:
            yield f"FAMILIES has no line {model_type}, which its own config.json would name"
        yield from _table(family)
        yield from _parity(model_type, held, golden)
        if model_type not in spec:
            yield f"schemas/runspec.base.schema.json: model_type cannot be {model_type}"


def _file(family: ModuleType) -> str:
    return f"engine/trainer/models/{family.__name__.rpartition('.')[2]}.py"


def _parts(family: ModuleType) -> Iterator[str]:
    """What a family's module offers under the same names as all others."""
    yield from (f"{_file(family)} lacks {part}" for part in PARTS if not hasattr(family, part))
    if hasattr(family, "CONFIG"):
        yield from (f"{_file(family)} lacks CONFIG.{part}" for part in CONFIG_PARTS if not hasattr(family.CONFIG, part))


def _table(family: ModuleType) -> Iterator[str]:
    """Errors of the table of weights."""
    if family.MODEL.TABLE is not family.TABLE:
        yield f"{_file(family)}: MODEL.TABLE is another table than TABLE"
    names = [leaf.stored for leaf in family.TABLE.leaves]
    if len(set(names)) < len(names):
        yield f"{_file(family)}: two weights are stored under one name"
    for leaf in family.TABLE.leaves:
        if len({leaf.name.startswith("layers."), leaf.shape.startswith("L "), "{}" in leaf.stored}) > 1:
            yield f"{_file(family)}: {leaf.name} does not say as one whether it is of a layer"


def _parity(model_type: str, held: ModuleType, golden: set[str]) -> Iterator[str]:
    """What compares a family with the reference."""
    kinds = {kind for kind, mapping in held.KINDS.items() if mapping["model_type"] == model_type}
    if not kinds:
        yield f"tests/fixtures/kinds.py: KINDS has none of {model_type}: no parity test"
    elif kinds.isdisjoint(held.GRADED):
        yield f"tests/fixtures/kinds.py: GRADED has none of {model_type}: no gradients in the golden file"
    yield from (f"tests/fixtures/gemma_golden.npz has no {kind}: make golden" for kind in sorted(kinds - golden))
    for table in ("TINY_MORE", "BF16_BOUNDS"):
        if model_type not in getattr(held, table):
            yield f"tests/fixtures/kinds.py: {table} has no line for {model_type}"


@pytest.fixture(scope="module")
def spec_families(repository: Path) -> set[str]:
    """What `model.config.model_type` of a run-spec may be."""
    schema = json.loads((repository / "schemas" / "runspec.base.schema.json").read_text(encoding="utf-8"))
    return set(schema["properties"]["model"]["properties"]["config"]["properties"]["model_type"]["enum"])


def test_nothing_is_forgotten(held: ModuleType, golden_kinds: set[str], spec_families: set[str]) -> None:
    """Every family has all of its parts, its kinds, its golden entries, its price and its name in the run-spec."""
    assert list(forgotten(FAMILIES, held, golden_kinds, spec_families)) == []
    assert golden_kinds == set(held.KINDS)
    assert spec_families <= set(FAMILIES)


def test_a_newcomer_is_told_everything(held: ModuleType, golden_kinds: set[str], spec_families: set[str]) -> None:
    """An empty module, and a complete one that is registered nowhere else."""
    empty = ModuleType("engine.trainer.models.gemma9")
    assert list(forgotten({"gemma9": empty}, held, golden_kinds, spec_families)) == [
        *(f"engine/trainer/models/gemma9.py lacks {part}" for part in PARTS),
        "engine/model_config/__init__.py: CONFIGS has no line for gemma9: its config.json cannot be read",
        "engine/preflight/analytic.py: FAMILY_NORMS has no line for gemma9: plan cannot price it",
    ]

    class Config(FAMILIES["gemma"].CONFIG):  # type: ignore[name-defined,misc]
        MODEL_TYPE = "gemma9"

    whole: Any = ModuleType("engine.trainer.models.gemma9")
    for part in PARTS:
        setattr(whole, part, getattr(FAMILIES["gemma"], part))
    whole.CONFIG = Config
    assert list(forgotten({"gemma9": whole}, held, golden_kinds, spec_families)) == [
        "engine/model_config/__init__.py: CONFIGS has no line for gemma9: its config.json cannot be read",
        "engine/preflight/analytic.py: FAMILY_NORMS has no line for gemma9: plan cannot price it",
        "tests/fixtures/kinds.py: KINDS has none of gemma9: no parity test",
        "tests/fixtures/kinds.py: TINY_MORE has no line for gemma9",
        "tests/fixtures/kinds.py: BF16_BOUNDS has no line for gemma9",
        "schemas/runspec.base.schema.json: model_type cannot be gemma9",
    ]
