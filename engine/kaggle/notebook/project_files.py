"""The files of a project that travel in its notebook: eval set, rows, templates of one's own; and what cannot travel.

In: the Spec. Out: path in the project -> bytes, without the run-spec itself, which the configuration cell has. Raises InputInvalid with
everything that the platform could not reach: a model's folder (G103), a kind of step of another package (G104), a secret in a file (G105).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import Diagnostic, InputInvalid, Where
from engine.redact import find_secrets
from engine.runspec.model import Spec

MODEL_HINT = (
    "name one that the platform can fetch: model: {id: owner/name} from the hub, or {kaggle: owner/model/framework/variation/version}\n"
    "from Kaggle; your own folder can be uploaded there as a model first"
)


def project_files(spec: Spec, is_built_in: Callable[[str], bool]) -> dict[str, bytes]:
    """What the run reads of the project. ``is_built_in`` says of a kind of step whether the engine has it."""
    findings = [*_model(spec), *_kinds(spec, is_built_in)]
    files = {} if findings else {path: spec.resolve(path).read_bytes() for path in dict.fromkeys(_named(spec))}
    findings += _secrets(spec, files)
    if findings:
        raise InputInvalid.of(findings)
    return files


def _named(spec: Spec) -> Iterator[str]:
    yield spec.eval_set
    if spec.dataset.path is not None and spec.dataset.hub is None:  # with hub it is a path in the repository
        yield spec.dataset.path
    for name in spec.evidence.files:
        template = f"templates/{name}.j2"
        if (spec.root / template).is_file() and not _is_checkout(spec.root):
            yield template


def _is_checkout(root: Path) -> bool:
    """Whether the project is the engine's own: its templates travel with the engine."""
    return (root / "engine" / "kaggle").is_dir()


def _model(spec: Spec) -> Iterator[Diagnostic]:
    if spec.model.path is not None:
        yield Diagnostic("G103", f"the platform cannot reach the folder of the model, {spec.model.path}: weights do not fit into a notebook",
                         _where(spec, "model.path"), MODEL_HINT)  # fmt: skip


def _kinds(spec: Spec, is_built_in: Callable[[str], bool]) -> Iterator[Diagnostic]:
    for step in spec.steps:
        if not is_built_in(step.uses):
            yield Diagnostic("G104", f'step "{step.id}" is of the kind {step.uses}, which another package adds: it does not travel in the notebook',
                             step.where, "run it here, or leave the step out")  # fmt: skip


def _secrets(spec: Spec, files: dict[str, bytes]) -> Iterator[Diagnostic]:
    """A notebook is made to be shown: nothing in it may be a secret."""
    overrides = "\n".join(override.text for override in spec.overrides).encode()
    named = {spec.path.name: spec.data, "the overrides": overrides, **files}
    for place, kind in find_secrets(named, os.environ):
        yield Diagnostic("G105", f"{place} looks like a secret ({kind}), and the notebook would show it",
                         hint="take it out; a token of the hub is read in the session, as HF_TOKEN")  # fmt: skip


def _where(spec: Spec, path: str) -> Where:
    file = spec.path.relative_to(spec.root) if spec.path.is_relative_to(spec.root) else spec.path
    return Where(file.as_posix(), path=path)
