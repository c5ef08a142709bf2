"""The life of a handler: one helper that drives every kind, built-in or not, through the same laws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.artifacts.journal import journal_path, read_journal
from engine.artifacts.store import Store
from engine.errors import Interrupted, RunspecError
from engine.pipeline.plan import Selection, make_plan
from engine.pipeline.runner import execute
from engine.protocol.events.base import Event
from engine.runspec import load_spec
from engine.runspec.model import Spec, StepSpec
from engine.steps import Handler, StepContext, StepResult
from engine.steps.registry import handlers

REPOSITORY = Path(__file__).parent.parent.parent

SPEC = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: life_v1
device: cpu
model:
  id: runspec/gemma-micro
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 256}
dataset: quickstart-reasoning
eval_set: evalsets/quickstart.jsonl
steps:
  - {id: dataset, uses: build_dataset, with: {num_rows: 24}}
  - {id: smoke, uses: smoke_run, with: {num_train_steps: 2, num_items: 2, max_new_tokens: 4}}
  - id: train
    uses: train_sft
    with: {num_train_steps: 3, per_device_batch_size: 2, seq_len: 128, learning_rate: 1.0e-3, save_every_steps: 2}
  - {id: predict, uses: generate, with: {max_new_tokens: 4, batch_size: 50}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
"""


class Quiet:
    """A console that records notes and events."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.events: list[Event | Mapping[str, Any]] = []

    def step_started(self, planned: Any, index: int, total: int) -> None: ...

    def event(self, event: Event | Mapping[str, Any]) -> None:
        self.events.append(event)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None: ...

    def step_skipped(self, step_id: str, reason: str) -> None: ...


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Quiet]:
    """A project in which every built-in kind has really run once, with a model of 3000 weights."""
    root = tmp_path_factory.mktemp("life")
    for folder in (".runspec", "runspecs", "evalsets"):
        (root / folder).mkdir()
    shutil.copy(REPOSITORY / "evalsets" / "quickstart.jsonl", root / "evalsets")
    path = root / "runspecs" / "life.yaml"
    path.write_text(SPEC)
    spec = load_spec(path, kinds=handlers())
    console = Quiet()
    execute(spec, handlers(), console=console, command="runspec run runspecs/life.yaml")
    return spec, console


class Life:
    """Drives one step of a finished project through the laws that hold for every handler."""

    def __init__(self, spec: Spec, step: StepSpec, kinds: Mapping[str, Handler]) -> None:
        self.spec, self.step, self.kinds = spec, step, kinds
        self.handler = kinds[step.uses]
        self.store = Store(spec.root)

    def check_description(self) -> None:
        """The schema is draft-07 and closed, every key has title and description, and the declared arguments satisfy it."""
        schema = self.handler.schema
        jsonschema.Draft7Validator.check_schema(dict(schema))
        assert schema["additionalProperties"] is False
        for key, value in schema["properties"].items():
            assert value.get("title"), key
            assert value.get("description"), key
        jsonschema.validate(dict(self.step.args), dict(schema))
        assert set(self.step.args) == set(schema["properties"]), "defaults fill in every key"
        assert set(self.handler.measured) <= set(self.handler.files)

    def planned(self, spec: Spec | None = None, kinds: Mapping[str, Handler] | None = None) -> Any:
        plan = make_plan(spec or self.spec, kinds or self.kinds, self.store)
        return next(entry for entry in plan.steps if entry.step.id == self.step.id)

    def check_published(self) -> None:
        """It published all declared files, undamaged, with facts that are JSON; and now it is skipped."""
        entry = self.planned()
        assert entry.action == "skip"
        assert entry.artifact.type == self.handler.makes
        assert set(self.handler.files) <= set(entry.artifact.files)
        assert self.store.damage(entry.artifact) == []
        json.dumps(dict(entry.artifact.facts), allow_nan=False)
        events = read_journal(journal_path(self.store.root, self.spec.run_version))
        assert any(row["event"] == "step_finished" and row["id"] == self.step.id for row in events)

    def check_repeats(self) -> None:
        """Forced to run again, it makes the same content, so that no later step has to run."""
        before = self.planned().artifact
        selection = Selection(only=self.step.id, force=frozenset({self.step.id}))
        execute(self.spec, self.kinds, console=Quiet(), command="again", selection=selection)
        after = self.planned().artifact
        assert after.digest == before.digest
        assert all(entry.action == "skip" for entry in make_plan(self.spec, self.kinds, self.store).steps)

    def check_notices(self) -> None:
        """Another version of the kind, or of a library it depends on, is another fingerprint."""
        newer = {**self.kinds, self.step.uses: _Changed(self.handler, version=self.handler.version + 1)}
        assert self.planned(kinds=newer).action == "run"
        assert self.planned(kinds=newer).fingerprint != self.planned().fingerprint

    def check_failure(self) -> None:
        """A handler that fails half-way publishes nothing, and the earlier artifact stays."""
        for error in (RunspecErrorOfTest("R998", "died"), Interrupted("R997", "stopped")):
            dying = {**self.kinds, self.step.uses: _Changed(self.handler, dies=error)}
            selection = Selection(only=self.step.id, force=frozenset({self.step.id}))
            with pytest.raises(RunspecError):
                execute(self.spec, dying, console=Quiet(), command="again", selection=selection)
            assert self.planned().action == "skip"
            assert self.store.damage(self.planned().artifact) == []


class RunspecErrorOfTest(RunspecError):
    """A failure that a test raises."""


class _Changed:
    """A handler with another version, or one that fails."""

    def __init__(self, inner: Handler, *, version: int | None = None, dies: RunspecError | None = None) -> None:
        self._inner, self._dies = inner, dies
        self.version = version if version is not None else inner.version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, ctx: StepContext) -> StepResult:
        (ctx.out / "half.txt").write_text("half")
        assert self._dies is not None
        raise self._dies


@pytest.fixture
def life(lived: tuple[Spec, Quiet]) -> Callable[[str], Life]:
    """``life("train")`` drives that step."""
    spec, _ = lived
    return lambda step_id: Life(replace(spec), spec.step(step_id), handlers())
