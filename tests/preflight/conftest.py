"""A run-spec with one training step on Gemma 2B, from the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Where
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec


@pytest.fixture
def gemma_2b(tmp_path: Path) -> Callable[[Mapping[str, Any]], Spec]:
    """The run-spec for these arguments of the step."""

    def make(args: Mapping[str, Any]) -> Spec:
        train = StepSpec("train", "train_sft", args, args, None, Where("s.yaml", 1, 1))
        return Spec(
            version=1, run_version="v", notes="", device="auto", model=ModelSpec("google/gemma-2b"),
            dataset=DatasetSpec(name="d"), eval_set="e.jsonl", steps=(train,),
            evidence=EvidenceSpec("submission_runs/v"), package=PackageSpec("v"), path=tmp_path / "s.yaml",
            root=tmp_path, data=b"", digest="",
        )  # fmt: skip

    return make
