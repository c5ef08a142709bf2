"""The run-spec as one immutable value, which every later part reads instead of the YAML.

Only :mod:`engine.runspec` makes it; nothing after it reads the raw dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.canonical import JsonMapping
from engine.errors import Where

OnDuplicateItem = Literal["fail", "keep", "drop"]
Device = Literal["auto", "cpu", "gpu", "tpu"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model. ``init: random`` trains ``config`` from scratch; ``pretrained`` reads weights.

    Weights come from the hub (``id`` at ``revision``) or, where ``path`` is given, from a local folder, or, where ``kaggle`` is, from
    that version of a model on Kaggle; ``id`` is then its name there, unless another is given. ``config`` has Hugging Face's keys (``model_type``, ``hidden_size``, …).
    """

    id: str
    init: Literal["pretrained", "random"] = "pretrained"
    revision: str | None = None
    path: str | None = None
    kaggle: str | None = None
    config: JsonMapping | None = None
    tokenizer: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Which rows: exactly one of ``name`` (a builder), ``path`` (a file) or ``hub`` is set."""

    name: str | None = None
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    split: str | None = None
    format: Literal["trace", "prompt_completion", "chat"] = "trace"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name that goes into the evidence."""
        return self.name or (f"{self.hub}@{self.revision}" if self.hub else str(self.path))


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step. ``args`` are effective (after defaults and overrides); ``declared`` are the person's."""

    id: str
    uses: str
    args: JsonMapping
    declared: JsonMapping
    needs: tuple[str, ...] | None  # None: the nearest earlier steps that make its inputs
    where: Where


def default_evidence_dir(run_version: str) -> str:
    """Where the evidence goes if ``evidence.dir`` is left out."""
    return f"submission_runs/{run_version}"


@dataclass(frozen=True, slots=True)
class EvidenceSpec:
    """Where the evidence goes and which files are rendered into it."""

    dir: str
    files: tuple[str, ...] = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")


@dataclass(frozen=True, slots=True)
class PackageSpec:
    """The zip: ``<dir>/<name>_<date>_<sha>.zip``."""

    name: str
    dir: str = "submission"


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """When one attempt ends by itself: ``8h30m``; None: no limit, the default margin."""

    limit: str | None = None
    margin: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """The machines that a job file asks a scheduler for; ``own``: scheduler -> the keys of that scheduler alone."""

    scheduler: Literal["slurm", "skypilot", "jobset"]
    machines: int
    devices_per_machine: int
    accelerator: str | None
    cpus_per_machine: int | None
    memory_gib_per_machine: int | None
    time_limit_minutes: int
    max_restarts: int
    setup: tuple[str, ...]
    environment: tuple[str, ...]
    secrets: tuple[str, ...]
    own: Mapping[str, JsonMapping]


@dataclass(frozen=True, slots=True)
class Override:
    """One ``id.key=value`` of the command line, already typed by the schema."""

    path: str
    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole run-spec. ``root`` is the project folder that every path in it is relative to.

    ``data`` are the file's bytes, ``digest`` their SHA-256; ``overrides`` are applied already.
    """

    version: int
    run_version: str
    notes: str
    device: Device
    model: ModelSpec
    dataset: DatasetSpec
    eval_set: str
    steps: tuple[StepSpec, ...]
    evidence: EvidenceSpec
    package: PackageSpec
    path: Path
    root: Path
    data: bytes
    digest: str
    overrides: tuple[Override, ...] = ()
    allocator: JsonMapping | None = None  # kind, preallocate, fraction: a GPU's memory
    launch: LaunchSpec | None = None
    on_duplicate_item: OnDuplicateItem = "fail"  # of the eval set
    session: SessionSpec = SessionSpec()

    def step(self, step_id: str) -> StepSpec:
        """The step of this id. Raises KeyError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def resolve(self, path: str) -> Path:
        """A path of the spec, made absolute. The schema has refused paths that leave the project."""
        return (self.root / path).resolve()


def comes_from_hub(model: ModelSpec) -> bool:
    """Whether the weights are fetched from the hub."""
    return model.init == "pretrained" and model.path is None and model.kaggle is None


def needs_token(spec: Spec) -> bool:
    """Whether something comes from the hub, which asks for a token where it is gated or private."""
    return comes_from_hub(spec.model) or spec.dataset.hub is not None
