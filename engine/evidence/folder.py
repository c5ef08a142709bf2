"""The evidence folder: rendered files, the files that a stranger needs to check them, and ``manifest-sha256.txt``.

The manifest is written last and has the form that ``sha256sum -c`` reads. A file that already has the same
bytes is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from engine.artifacts.journal import RunRecord
from engine.artifacts.refusals import explained_reading, read_state
from engine.canonical import digest_bytes, pretty_json, write_atomic
from engine.errors import EvidenceIncomplete, InputInvalid, RunFailed
from engine.evidence.render import render_text
from engine.evidence.view import make_view, record_dump
from engine.os_errors import hint_for
from engine.temporary import remove_leftovers

MANIFEST = "manifest-sha256.txt"
# file in the evidence folder -> (kind of the step, file of its artifact); optional ones only where the step ran
ATTACHMENTS: Mapping[str, tuple[str, str]] = {
    "dataset_manifest.json": ("build_dataset", "manifest.json"),
    "smoke_report.json": ("smoke_run", "smoke_report.json"),
    "metrics.jsonl": ("train_sft", "metrics.jsonl"),
    "train_report.json": ("train_sft", "train_report.json"),
    "predictions.jsonl": ("score", "predictions.jsonl"),
    "scorecard.json": ("score", "scorecard.json"),
}


def render_evidence(
    record: RunRecord, files: Sequence[str], out_dir: Path, *, template_dirs: Sequence[Path]
) -> list[Path]:
    """Render and write everything; returns the paths. Nothing is written unless every file could be rendered."""
    check_owner(record.run_version, out_dir)
    attachments = _attachments(record)  # all that is read of artifacts is checked before anything is rendered
    view = make_view(record)
    contents = {name: render_text(name, view, template_dirs).encode() for name in files}
    second = {name: render_text(name, make_view(record), template_dirs).encode() for name in files}
    changing = sorted(name for name in files if contents[name] != second[name])
    if changing:
        raise InputInvalid(
            "E109",
            f"{', '.join(changing)} renders differently each time",
            hint="evidence is a function of the run: remove clocks and random numbers from the template",
        )
    contents.update(attachments)
    manifest = "".join(f"{digest_bytes(data)}  {name}\n" for name, data in sorted(contents.items()))
    try:
        return _write(out_dir, {**contents, MANIFEST: manifest.encode()})
    except OSError as error:
        raise RunFailed(
            "E110",
            f"the evidence cannot be written: {error.filename or out_dir}: {error.strerror}",
            hint=f"{hint_for(error.errno) or 'free some disk space or give this user write permission there'}\n"
            "then: runspec evidence SPEC",
        ) from error


def _attachments(record: RunRecord) -> dict[str, bytes]:
    contents = {
        "runspec.yaml": record.spec_bytes,
        "eval_set.jsonl": record.eval_set_bytes,
        "run_record.json": pretty_json(record_dump(record)).encode(),
    }
    for name, (kind, source) in ATTACHMENTS.items():
        step = record.step_of(kind)
        if step is None:
            continue
        try:
            contents[name] = record.read(step, source)
        except KeyError as error:
            raise EvidenceIncomplete(
                "E101",
                f'the evidence needs {source}, and step "{step.id}" ({kind}) did not leave it',
                hint=f"run it again: --force {step.id}",
            ) from error
    return contents


RENDERED = ("eval_summary.json", "kaggle_output_log.txt")
# Each names the run that owns the folder; the second is written first.
OWNERS = ("run_manifest.json", "run_record.json")
MOVE_IT = "move the folder away; the next run writes it again, and computes nothing again"


def check_owner(run_version: str, out_dir: Path) -> None:
    """E108: evidence never replaces that of another run, and never mixes with files of other origin. E110, R112: no folder."""
    with explained_reading(out_dir, MOVE_IT):
        for path in (out_dir, *out_dir.parents):
            if path.exists() and not path.is_dir():
                raise RunFailed("E110", f"the evidence cannot be written: {path} is not a folder",
                                hint="move it away, or set evidence.dir to another folder")  # fmt: skip
        owner, present = _owner_of(out_dir), any((out_dir / name).exists() for name in OWNERS)
        others = [path.name for path in out_dir.iterdir() if path.name[0] != "."] if out_dir.is_dir() else []
    if owner is not None and owner != run_version:
        raise InputInvalid(
            "E108",
            f"{out_dir.name}/ contains the evidence of {owner}, not of {run_version}",
            hint="give this run an evidence.dir of its own, or move the other evidence",
        )
    if owner is None and present:
        raise InputInvalid(
            "E108",
            f"{out_dir.name}/ contains evidence of a run that cannot be told: {' and '.join(OWNERS)} are damaged",
            hint=f"if it is that of {run_version}: {MOVE_IT}",
        )
    if owner is None and others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise InputInvalid(
            "E108",
            f"{out_dir.name}/ contains files that no run has written: {', '.join(sorted(others)[:3])}{more}",
            hint="set evidence.dir to a folder of its own, or move these files",
        )


def check_writable(out_dir: Path, package_dir: Path) -> None:
    """E110, P103 where the evidence or its zip could not be written, as far as permissions say."""
    for folder, code, what in ((out_dir, "E110", "the evidence"), (package_dir, "P103", "the package")):
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            reason = "no permission to write there" if nearest.is_dir() else "it is not a folder"
            raise RunFailed(code, f"{what} cannot be written: {nearest}: {reason}",
                            hint="give this user write permission there, or name another folder")  # fmt: skip


def _owner_of(out_dir: Path) -> str | None:
    """The run that the folder's files name; None where none of them can be read as one.

    Where they disagree, one of them is damaged: the one whose bytes the folder's own list of digests has is believed.
    """
    contents = {name: read_state(out_dir / name, MOVE_IT) for name in OWNERS}
    named = {name: run for name, data in contents.items() if data is not None and (run := _run_version_in(data))}
    if len(set(named.values())) > 1:
        listed = (read_state(out_dir / MANIFEST, MOVE_IT) or b"").decode(errors="replace").split("\n")
        named = {name: run for name, run in named.items() if f"{digest_bytes(contents[name] or b'')}  {name}" in listed}
    return next(iter(named.values())) if len(set(named.values())) == 1 else None


def evidence_names(folder: Path) -> frozenset[str]:
    """Names of the files of a run's evidence folder, whichever run it was; empty for any other folder."""
    record = folder / OWNERS[1]
    try:
        is_evidence = record.is_file() and _run_version_in(record.read_bytes()) is not None
    except OSError:
        return frozenset()
    names = (*RENDERED, "runspec.yaml", "eval_set.jsonl", *OWNERS, *ATTACHMENTS, MANIFEST)
    return frozenset({*names, *_listed(folder)}) if is_evidence else frozenset()


def names_to_come(files: Sequence[str], uses: Collection[str]) -> list[str]:
    """The files that a run writes into its evidence folder: those of the spec, and what its kinds of steps leave there."""
    attached = [name for name, (kind, _) in ATTACHMENTS.items() if kind in uses]
    return sorted({*files, "runspec.yaml", "eval_set.jsonl", OWNERS[1], *attached, MANIFEST})


def _run_version_in(data: bytes) -> str | None:
    """The run that a file of these bytes names."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    run_version = value.get("run_version") if isinstance(value, dict) else None
    return run_version if isinstance(run_version, str) else None


def _write(out_dir: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write the run's record first, which marks the folder as the run's own, and the manifest last.

    Files of an earlier rendering that are no longer rendered are removed before, and what killed runs left.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir)
    for stale in out_dir.iterdir():
        if stale.is_file() and stale.name not in contents and _is_listed(stale.name, out_dir):
            stale.unlink()
    for name, data in sorted(contents.items(), key=lambda item: item[0] != OWNERS[1]):
        path = out_dir / name
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)
    return [out_dir / name for name in contents]


def _is_listed(name: str, out_dir: Path) -> bool:
    """Whether an earlier manifest lists the file."""
    return name in (_listed(out_dir) if (out_dir / MANIFEST).is_file() else ATTACHMENTS)


def _listed(folder: Path) -> frozenset[str]:
    """The names in the folder's manifest."""
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return frozenset()
    return frozenset(line[66:] for line in lines)
