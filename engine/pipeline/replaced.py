"""The evidence that a run is about to replace: compared with what comes, and kept.

In: the run-spec, whose evidence folder holds the evidence of an earlier run under the same run_version. Out: a
:class:`Replaced`, which says what differs and where the earlier evidence, and its zip, are from now on:

    .runspec/runs/<run_version>/replaced/<when it was finished>-<digest>/evidence/…, package/<name>.zip

`runspec verify` checks it there like any other. Nothing removes these folders but a person.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifacts.journal import Journal, RunRecord
from engine.artifacts.store import Store, explain_os_error
from engine.canonical import JsonMapping, JsonObject, digest_file
from engine.evidence import record_dump
from engine.pipeline.attempts import replaced_folder
from engine.pipeline.plan import differences, relative, step_ingredients
from engine.runspec.model import Spec
from engine.steps import Handler

RECORD = "run_record.json"
SAME = "nothing that is declared: the same arguments, run again"
PARTIAL = ".partial-"  # the beginning of a copy's name until it is whole
MOST_DIFFERENCES = 12  # on the screen; --json and the two records have all


@dataclass(frozen=True, slots=True)
class Replaced:
    """``differs``: ``train.seed: 42 -> 43`` for everything declared that differs; ``kept`` is relative to the project."""

    finished_at: str
    differs: tuple[str, ...]
    kept: str

    def as_json(self) -> JsonObject:
        """The value that ``--json`` prints."""
        return {"finished_at": self.finished_at, "differs": list(self.differs), "kept": self.kept}

    def text(self) -> str:
        """What was replaced, what differs, where it is."""
        return f"replaced the evidence of {self.finished_at}, which is kept in {self.kept}/\n{listed(self.differs)}"


def listed(differs: tuple[str, ...]) -> str:
    """The differences as lines, the first of them where there are many."""
    shown = [f"differs: {line}" for line in differs[:MOST_DIFFERENCES] or (SAME,)]
    beyond = len(differs) - MOST_DIFFERENCES
    return "\n".join([*shown, f"and {beyond} more differences"] if beyond > 0 else shown)


def earlier_record(spec: Spec) -> JsonObject | None:
    """The record in the evidence folder, where it is one of this run_version."""
    path = spec.resolve(spec.evidence.dir) / RECORD
    try:
        record: Any = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    is_own = isinstance(record, dict) and record.get("run_version") == spec.run_version
    steps = record.get("steps") if is_own else None
    is_whole = isinstance(steps, list) and steps and all(map(_is_step, steps))
    return record if is_whole else None


def _is_step(step: object) -> bool:
    return isinstance(step, dict) and all(isinstance(step.get(key, {}), dict) for key in ("with", "ingredients"))


def will_replace(spec: Spec, handlers: Mapping[str, Handler], store: Store) -> str | None:
    """What to say before the first step runs: which evidence this run will replace, and what differs, as its end will say it."""
    record = earlier_record(spec)
    if record is None:
        return None
    coming = [
        {"id": step.id, "ingredients": step_ingredients(spec, step, handlers[step.uses], {}, {}, store)}
        for step in spec.steps
    ]
    differs = step_differences(_causes(record), _causes(json.loads(json.dumps({"steps": coming}))))
    return (
        f"{spec.evidence.dir}/ has the evidence of {spec.run_version} finished {record.get('finished_at')}; this run will "
        f"replace it and keep it (another run_version has a folder of its own)\n{listed(differs)}"
    )


def keep_replaced(spec: Spec, record: RunRecord, journal: Journal) -> Replaced | None:
    """Copy the evidence that ``record`` is about to replace; None where there is none, or it is of the same record."""
    return keep_replaced_by(spec, record_dump(record), journal)


def keep_replaced_by(spec: Spec, coming: JsonMapping, journal: Journal) -> Replaced | None:
    """The same for a record that was made elsewhere, as its run_record.json has it."""
    earlier = earlier_record(spec)
    if earlier is None or earlier == json.loads(json.dumps(coming)):
        return None
    folder = spec.resolve(spec.evidence.dir)
    finished_at = str(earlier.get("finished_at"))
    stamp = "".join(character for character in finished_at if character.isalnum())[:20]
    parent = replaced_folder(spec.root, spec.run_version)
    home = parent / f"{stamp}-{digest_file(folder / RECORD)[:8]}"
    try:
        remove_partial(spec)
        if not home.exists():
            # Beside it, and so on the same disk whatever of .runspec/ is a link to another one: a rename works within one disk.
            _copy(folder, _package(spec, journal), home, parent / f"{PARTIAL}{home.name}")
    except OSError as error:
        raise explain_os_error(error, home) from error
    return Replaced(finished_at, step_differences(_causes(earlier), _causes(coming)), relative(home, spec.root))


def remove_partial(spec: Spec) -> None:
    """Remove what killed runs left of their copies. Holds the run's lock."""
    for partial in replaced_folder(spec.root, spec.run_version).glob(f"{PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)


def _package(spec: Spec, journal: Journal) -> Path | None:
    """The zip that was verified last, where it is still the same."""
    verified = journal.last("verified")
    if verified is None or not isinstance(verified.get("package"), str):
        return None
    path = spec.root / verified["package"]
    return path if path.is_file() and digest_file(path) == verified.get("sha256") else None


def _copy(folder: Path, package: Path | None, home: Path, staging: Path) -> None:
    """Both into a staging folder, which one rename makes visible."""
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "evidence").mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            shutil.copy2(path, staging / "evidence" / path.name)
    if package is not None:
        (staging / "package").mkdir()
        shutil.copy2(package, staging / "package" / package.name)
    home.parent.mkdir(parents=True, exist_ok=True)
    os.rename(staging, home)


def _causes(record: JsonMapping) -> dict[str, Any]:
    """Step id -> its ingredients, without those that follow from other steps' (inputs, arguments ahead)."""
    causes: dict[str, Any] = {}
    for step in record["steps"]:
        ingredients = step.get("ingredients", {})
        causes[str(step.get("id"))] = {key: ingredients[key] for key in ingredients if key not in ("inputs", "ahead")}
    return causes


def step_differences(earlier: JsonMapping, coming: JsonMapping) -> tuple[str, ...]:
    """``train.seed: 42 -> 43``. What several steps read (the model, a library's version) is said once, without a step."""
    lines: dict[str, None] = {}
    for step_id in dict.fromkeys([*coming, *earlier]):
        if step_id not in earlier or step_id not in coming:
            lines[f"{step_id}: {'a new step' if step_id in coming else 'no longer a step'}"] = None
            continue
        for change in differences(earlier[step_id], coming[step_id]):
            part, _, rest = change.partition(".")
            shared = part in ("spec", "environment")
            if part.startswith("version: "):  # nothing that a person has written
                kind = coming[step_id].get("kind")
                lines[f"{step_id}: {kind} of another version of the engine ({change})"] = None
                continue
            lines[rest if shared else f"{step_id}.{rest if part == 'with' else change}"] = None
    return tuple(lines)
