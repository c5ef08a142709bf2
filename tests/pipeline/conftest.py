"""A small project with fake handlers: enough to drive plan, store, journal and runner without JAX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_text
from engine.errors import Where
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec
from engine.steps import FunctionHandler, StepContext, StepResult

EMPTY_SCHEMA = {"type": "object", "additionalProperties": False, "properties": {}}


class RecordingConsole:
    """A console that records its calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step_started(self, planned: Any, index: int, total: int) -> None:
        self.lines.append(f"start {planned.step.id} {index}/{total}")

    def event(self, event: Mapping[str, Any]) -> None:
        self.lines.append(f"event {event['event']}")

    def note(self, text: str) -> None:
        self.lines.append(f"note {text}")

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        self.lines.append(f"done {step_id}")

    def step_skipped(self, step_id: str, reason: str) -> None:
        self.lines.append(f"skip {step_id}")


@pytest.fixture
def console() -> RecordingConsole:
    return RecordingConsole()


def writer(name: str, *, hook: Callable[[StepContext], None] | None = None) -> Callable[[StepContext], StepResult]:
    """A step that writes its arguments and inputs into ``<name>.json``."""

    def run(ctx: StepContext) -> StepResult:
        if hook is not None:
            hook(ctx)
        seen = {type_: artifact.digest for type_, artifact in ctx.inputs.items()}
        (ctx.out / f"{name}.json").write_text(json.dumps({"args": dict(ctx.args), "inputs": seen}))
        return StepResult({"name": name})

    return run


def handler(kind: str, takes: tuple[str, ...], makes: str, **more: Any) -> FunctionHandler:
    """A fake kind whose artifact is one small file."""
    function = more.pop("function", None) or writer(makes, hook=more.pop("hook", None))
    return FunctionHandler(
        kind=kind, version=more.pop("version", 1), title=kind, takes=takes, makes=makes,
        files=more.pop("files", (f"{makes}.json",)), schema=more.pop("schema", EMPTY_SCHEMA), function=function, **more,
    )  # fmt: skip


@pytest.fixture
def kinds() -> dict[str, FunctionHandler]:
    """grow -> apple -> press -> juice."""
    return {"grow": handler("grow", (), "apple"), "press": handler("press", ("apple",), "juice")}


@pytest.fixture
def make_handler() -> Callable[..., FunctionHandler]:
    return handler


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., Spec]:
    """A Spec of (id, uses, args[, needs]) tuples, made without YAML."""

    def build(*steps: tuple[Any, ...], **changes: Any) -> Spec:
        text = json.dumps([str(step) for step in steps])
        (tmp_path / "eval.jsonl").write_text('{"id": "a"}\n')
        values: dict[str, Any] = {
            "version": 1, "run_version": "toy_v1", "notes": "", "device": "auto",
            "model": ModelSpec(id="toy"), "dataset": DatasetSpec(name="toy"), "eval_set": "eval.jsonl",
            "steps": tuple(_step(*step) for step in steps),
            "evidence": EvidenceSpec("submission_runs/toy_v1"), "package": PackageSpec("toy"),
            "path": tmp_path / "toy.yaml", "root": tmp_path, "data": text.encode(), "digest": digest_text(text),
        }  # fmt: skip
        return Spec(**{**values, **changes})

    return build


def _step(step_id: str, uses: str, args: dict[str, Any], needs: tuple[str, ...] | None = None) -> StepSpec:
    return StepSpec(step_id, uses, args, args, needs, Where("toy.yaml", 1, 1))
