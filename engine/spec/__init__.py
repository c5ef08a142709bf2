"""YAML text -> :class:`Spec`: the one door.

    spec = load_spec(Path("runspecs/quickstart.yaml"), ["train.num_train_steps=50"], kinds=handlers())

Everything that is wrong is found in one go, each finding with its place, the person's own line, a stable code and a
fix. Nothing here imports a framework; jsonschema and ruamel.yaml are loaded when a spec is read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from engine.canonical import digest_text
from engine.errors import Diagnostic, InputInvalid
from engine.spec.checks import Case, check_together
from engine.spec.kinds import Kind, Kinds, schema_document
from engine.spec.model import (
    DatasetSpec,
    EvidenceSpec,
    ModelSpec,
    Override,
    PackageSpec,
    Spec,
    StepSpec,
)
from engine.spec.overrides import apply_overrides
from engine.spec.reader import Document, read_document
from engine.spec.schema import check_values, fill_defaults

__all__ = ["Kind", "Kinds", "Spec", "check_spec", "find_root", "load_spec", "schema_document"]

MARKERS = (".runspec", ".git", "pyproject.toml")
DEFAULT_FILES = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")


def load_spec(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    kinds: Kinds,
    builders: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
) -> Spec:
    """Read, check and complete a run-spec. Raises InputInvalid with every error in it."""
    document, applied, findings = _examine(path, overrides, kinds, builders, metrics)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors or document is None:
        raise InputInvalid.of(errors)
    declared = read_document(path).data if applied else document.data
    return _make_spec(path, document, declared, applied, kinds)


def check_spec(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    kinds: Kinds,
    builders: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
) -> list[Diagnostic]:
    """Every finding, warnings included, in the order of the file; [] for a good spec."""
    return _examine(path, overrides, kinds, builders, metrics)[2]


def find_root(spec_path: Path) -> Path:
    """The project a spec belongs to: the nearest folder above it that has .runspec, .git or pyproject.toml.

    Where there is none: the spec's own folder, or the one above a folder called ``runspecs``.
    """
    folder = spec_path.resolve().parent
    for candidate in (folder, *folder.parents):
        if any((candidate / marker).exists() for marker in MARKERS):
            return candidate
    return folder.parent if folder.name == "runspecs" else folder


def _examine(
    path: Path,
    overrides: Sequence[str],
    kinds: Kinds,
    builders: Collection[str] | None,
    metrics: Collection[str] | None,
) -> tuple[Document | None, list[Override], list[Diagnostic]]:
    try:
        document = read_document(path)
    except InputInvalid as error:
        return None, [], list(error.diagnostics)
    applied, findings = apply_overrides(document, overrides, kinds)
    findings += check_values(document, kinds)
    findings += check_together(Case(document, kinds, find_root(path), builders, metrics))
    unique = {(finding.code, finding.message, str(finding.where)): finding for finding in findings}
    return document, applied, sorted(unique.values(), key=_place)


def _place(finding: Diagnostic) -> tuple[bool, int, int]:
    where = finding.where
    return (finding.severity == "warning", where.line if where else 0, where.column if where else 0)


def _make_spec(path: Path, document: Document, declared: dict[str, Any], applied: list[Override], kinds: Kinds) -> Spec:
    data, run_version = document.data, document.data["run_version"]
    evidence, package = data.get("evidence", {}), data.get("package", {})
    return Spec(
        version=data["version"],
        run_version=run_version,
        notes=data.get("notes", ""),
        device=data.get("device", "auto"),
        model=ModelSpec(**data["model"]),
        dataset=_dataset(data["dataset"]),
        eval_set=data["eval_set"],
        steps=tuple(_step(document, index, declared, kinds) for index in range(len(data["steps"]))),
        evidence=EvidenceSpec(
            evidence.get("dir", f"submission_runs/{run_version}"), tuple(evidence.get("files", DEFAULT_FILES))
        ),
        package=PackageSpec(package.get("name", run_version), package.get("dir", "submission")),
        path=path.resolve(),
        root=find_root(path),
        text=document.text,
        digest=digest_text(document.text),
        overrides=tuple(applied),
    )


def _dataset(value: str | dict[str, Any]) -> DatasetSpec:
    if isinstance(value, str):
        return DatasetSpec(name=value)
    return DatasetSpec(**value)


def _step(document: Document, index: int, declared: dict[str, Any], kinds: Kinds) -> StepSpec:
    step = document.data["steps"][index]
    needs = step.get("needs")
    return StepSpec(
        id=step["id"],
        uses=step["uses"],
        args=fill_defaults(step.get("with", {}), kinds[step["uses"]].schema),
        declared=dict(declared["steps"][index].get("with", {})),
        needs=tuple(needs) if needs is not None else None,
        where=document.where(("steps", index)),
    )
