"""What a session leaves in the output folder: the evidence, the package, and ``outcome.json``, which says how it ended.

In: the project on scratch and the answer of ``runspec run --json``. Out: files in the folder that the platform keeps.

``outcome.json``: {schema_version: 1, exit_code, state, run_version, engine_sha256, notebook_sha256_of_cells, edited_cells, package,
next}. ``state`` is complete, incomplete (stopped, and resumable) or failed; ``next`` says what is left of an incomplete run, and how it is continued.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from engine.canonical import JsonObject, pretty_json, write_atomic
from engine.evidence.witness import write_witness

FILE, EVIDENCE = "outcome.json", "evidence"
VERSION = 1
DEADLINE, INTERRUPTED = 7, 130
State = Literal["complete", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """The fields of ``outcome.json``; ``package`` is the zip's name in the output folder."""

    exit_code: int
    state: State
    run_version: str
    engine_sha256: str
    notebook_sha256_of_cells: str
    edited_cells: Sequence[str]
    package: str | None = None
    next: JsonObject | None = None


def state_of(exit_code: int, *, finished: bool) -> State:
    """By the engine's exit code; 0 is complete only after the last cell.

    >>> state_of(7, finished=True), state_of(0, finished=False), state_of(1, finished=True)
    ('incomplete', 'incomplete', 'failed')
    """
    if exit_code == 0 and finished:
        return "complete"
    return "incomplete" if exit_code in (0, DEADLINE, INTERRUPTED) else "failed"


def write_outcome(output: Path, outcome: SessionOutcome) -> None:
    """Replace ``outcome.json``."""
    write_atomic(output / FILE, pretty_json({"schema_version": VERSION, **asdict(outcome)}))


def collect(output: Path, evidence: Path, package: Path) -> str:
    """Copy evidence and package, and leave the witness of them; the package of an earlier run of this notebook goes. Returns the package's name."""
    before = _package_before(output)
    if before and before != package.name:
        (output / before).unlink(missing_ok=True)
    copy, old = output / f".{EVIDENCE}.new", output / f".{EVIDENCE}.old"
    for folder in (copy, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(evidence, copy)
    if (output / EVIDENCE).exists():
        (output / EVIDENCE).rename(old)
    copy.rename(output / EVIDENCE)
    shutil.rmtree(old, ignore_errors=True)
    shutil.copyfile(package, output / package.name)
    write_witness(output / EVIDENCE, output)
    return package.name


def _package_before(output: Path) -> str | None:
    """The package that an earlier outcome names: a plain file name, since somebody could have edited the file."""
    try:
        name = json.loads((output / FILE).read_text(encoding="utf-8")).get("package")
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and name.endswith(".zip") and Path(name).name == name else None
