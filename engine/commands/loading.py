"""The first step of most commands: read the run-spec with the installed kinds of steps, builders and metrics."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.artifacts import journal
from engine.canonical import JsonObject
from engine.commands import pick
from engine.errors import Diagnostic, InputInvalid, render
from engine.evidence import evidence_names

if TYPE_CHECKING:
    from engine.runspec.model import Spec
    from engine.steps import Handler


def known_kinds() -> JsonObject:
    """The keyword arguments of ``engine.runspec``: kinds of steps, dataset builders, metrics."""
    from engine.data import BUILDERS
    from engine.scoring import METRICS
    from engine.steps.registry import handlers

    return {"kinds": handlers(), "builders": tuple(BUILDERS), "metrics": tuple(METRICS)}


def load(path: str, overrides: Sequence[str] | None = None) -> tuple[Spec, Mapping[str, Handler]]:
    """The Spec and the handlers. Raises InputInvalid with every error of the file."""
    from engine.runspec import load_spec

    known = known_kinds()
    spec = load_spec(Path(path), list(overrides or ()), **known, on_former_name=_warn)
    return spec, known["kinds"]


def _warn(warning: Diagnostic) -> None:
    sys.stderr.write(f"{render(warning)}\n")


def plugin_warnings() -> list[Diagnostic]:
    """The warnings about installed plug-ins."""
    from engine.steps.registry import broken_plugins

    return broken_plugins()


def project_root() -> Path:
    """The project that the current folder belongs to."""
    from engine.runspec import find_root

    return find_root(Path.cwd())


def is_spec(name: str) -> bool:
    """Whether a word on the command line names a run-spec and not a run_version."""
    return name.endswith((".yaml", ".yml")) or Path(name).is_file()


def run_of(name: str | None) -> tuple[Path, str]:
    """(project, run_version) for a run-spec, a run_version, or the newest run. Raises InputInvalid (U112)."""
    if name is not None and is_spec(name):
        spec, _ = load(name)
        return spec.root, spec.run_version
    root = project_root()
    runs = run_versions(root)
    if name is None:
        if not runs:
            raise InputInvalid("U112", "this project has no run yet", hint="start one: runspec run SPEC")
        return root, runs[0]
    if name not in runs:
        if not runs:
            raise InputInvalid("U112", f'there is no run "{name}": this project has no run yet',
                               hint="start one: runspec run SPEC")  # fmt: skip
        pick("run", name, runs, "U112")
    return root, name


def run_versions(root: Path) -> list[str]:
    """Every run of the project, the newest first. Raises RunFailed R112."""
    return journal.run_versions(root / ".runspec")


def refuse_evidence(folder: Path, option: str) -> None:
    """Raises InputInvalid U146 where the folder, or one that it is in, holds a run's evidence: the next run would end with 4."""
    place = folder.resolve()
    found = next((path for path in (place, *place.parents) if evidence_names(path)), None)
    if found is not None:
        within = "is" if found == place else "lies in"
        raise InputInvalid("U146", f"{folder} {within} the evidence folder {found.name}/, whose files are counted",
                           hint=f"name a folder of its own: runspec {option}")  # fmt: skip
