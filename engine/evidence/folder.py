"""The evidence folder: rendered files, the files that a stranger needs to check them, and ``manifest-sha256.txt``.

Rendering has two stages: what the run made, then what is said about those files (:mod:`engine.evidence.about`). The
manifest is written last and has the form that ``sha256sum -c`` reads. A file that already has the same
bytes is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from engine.artifacts.journal import RunRecord
from engine.artifacts.refusals import explained_reading, read_state
from engine.canonical import JsonMapping, digest_bytes, digest_text, pretty_json, write_atomic
from engine.errors import EvidenceIncomplete, InputInvalid, RunFailed
from engine.evidence.about import (
    ABOUT_NAMES,
    SIGNATURE_FILES,
    STATEMENT,
    Inputs,
    digests_of_sources,
    make_about,
    present_sources,
    refuse_look_alikes,
    refuse_own_templates,
)
from engine.evidence.render import render_text, require_template
from engine.evidence.secrets import refuse_secrets
from engine.evidence.shipped import shipped_template
from engine.evidence.standalone import FILE as VERIFY_PY
from engine.evidence.standalone import verify_py
from engine.evidence.view import make_view, record_dump
from engine.os_errors import hint_for
from engine.temporary import remove_leftovers

MANIFEST = "manifest-sha256.txt"
NOT_WRITTEN = (
    "no evidence was written; revoke the secret if it is real, remove it from the run-spec, the data or the "
    "template that it comes from, and run again: what a secret did not touch is not computed again"
)
# file in the evidence folder -> (kind of the step, file of its artifact); optional ones only where the step ran
ATTACHMENTS: Mapping[str, tuple[str, str]] = {
    "dataset_manifest.json": ("build_dataset", "manifest.json"),
    "smoke_report.json": ("smoke_run", "smoke_report.json"),
    "metrics.jsonl": ("train_sft", "metrics.jsonl"),
    "train_report.json": ("train_sft", "train_report.json"),
    "predictions.jsonl": ("score", "predictions.jsonl"),
    "scorecard.json": ("score", "scorecard.json"),
}

PLATFORM = "platform.json"  # what the platform named the run: written after it, by whoever fetched it
ATTACHED = ("runspec.yaml", "eval_set.jsonl", "run_record.json", *ATTACHMENTS)


def render_evidence(
    record: RunRecord, files: Sequence[str], out_dir: Path, *, template_dirs: Sequence[Path]
) -> list[Path]:
    """Render and write everything; returns the paths. Nothing is written unless every file could be rendered."""
    check_owner(record.run_version, out_dir)
    refuse_own_templates(template_dirs)
    refuse_look_alikes(files)
    attachments = _attachments(record)  # all that is read of artifacts is checked before anything is rendered
    view = make_view(record)
    contents, used = _rendered(record, view, [name for name in files if name not in ABOUT_NAMES], template_dirs)
    sources = present_sources()
    contents.update(attachments)
    templates = {**digests_of(used), **digests_of_sources(sources)}
    contents["run_record.json"] = pretty_json(record_dump(record, dict(sorted(templates.items())))).encode()
    contents.update(_own_templates(used, contents))
    contents.update(make_about(Inputs(record, view, dict(contents)), sources))
    refuse_secrets(contents, RunFailed, "X340", NOT_WRITTEN)
    contents[VERIFY_PY] = verify_py()
    return write_all(out_dir, contents)


def listing_of(digests: Mapping[str, str]) -> str:
    """The text of manifest-sha256.txt, as ``sha256sum -c`` reads it.

    >>> listing_of({"b": "22", "a": "11"})
    '11  a\\n22  b\\n'
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def write_all(out_dir: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write these files and the list of their digests. Raises RunFailed E110."""
    manifest = listing_of({name: digest_bytes(data) for name, data in contents.items()})
    try:
        return _write(out_dir, {**contents, MANIFEST: manifest.encode()})
    except OSError as error:
        raise RunFailed(
            "E110",
            f"the evidence cannot be written: {error.filename or out_dir}: {error.strerror}",
            hint=f"{hint_for(error.errno) or 'free some disk space or give this user write permission there'}\n"
            "then: runspec evidence SPEC",
        ) from error


def check_templates(names: Sequence[str], template_dirs: Sequence[Path]) -> None:
    """Every evidence file has a template that is Jinja. Raises InputInvalid (E104, E106, E127), before hours of work."""
    refuse_own_templates(template_dirs)
    refuse_look_alikes(names)
    for name in names:
        if name not in ABOUT_NAMES:
            require_template(name, template_dirs)


def _rendered(
    record: RunRecord, view: JsonMapping, files: Sequence[str], template_dirs: Sequence[Path]
) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
    """The files of the first stage that templates make, and the templates that each used. Raises E109."""
    used: dict[str, dict[str, str]] = {name: {} for name in files}
    contents = {name: render_text(name, view, template_dirs, used[name]).encode() for name in files}
    second = {name: render_text(name, make_view(record), template_dirs).encode() for name in files}
    changing = sorted(name for name in files if contents[name] != second[name])
    if changing:
        raise InputInvalid(
            "E109",
            f"{', '.join(changing)} renders differently each time",
            hint="evidence is a function of the run: remove clocks and random numbers from the template",
        )
    return contents, used


def digests_of(used: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Rendered file -> its templates -> the SHA-256 of each."""
    return {
        name: {template: digest_text(text) for template, text in sorted(texts.items())}
        for name, texts in sorted(used.items())
    }


def _own_templates(used: Mapping[str, Mapping[str, str]], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The templates that are not the engine's: a stranger renders the files again with them. Raises E126."""
    texts = {template: text for templates in used.values() for template, text in templates.items()}
    own = {name: text.encode() for name, text in texts.items() if text != shipped_template(name)}
    for name in sorted(own):
        if "/" in name or name in contents or name in (*ABOUT_NAMES, *SIGNATURE_FILES, VERIFY_PY):
            raise InputInvalid(
                "E126",
                f"the template {name} cannot be among the evidence files: "
                + ("it is in a folder below templates/" if "/" in name else "an evidence file has this name"),
                hint="rename it, and keep it in templates/ itself",
            )
    return own


def _attachments(record: RunRecord) -> dict[str, bytes]:
    contents = {
        "runspec.yaml": record.spec_bytes,
        "eval_set.jsonl": record.eval_set_bytes,
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
INCOMPLETE = "incomplete.json"  # of a run that is not finished: engine.evidence.unfinished
MOVE_IT = "move the folder away; the next run writes it again, and computes nothing again"


def check_owner(run_version: str, out_dir: Path) -> None:
    """E108: evidence never replaces that of another run, and never mixes with files of other origin. E110, R112: no folder."""
    with explained_reading(out_dir, MOVE_IT):
        for path in (out_dir, *out_dir.parents):
            if path.exists() and not path.is_dir():
                raise RunFailed("E110", f"the evidence cannot be written: {path} is not a folder",
                                hint="move it away, or set evidence.dir to another folder")  # fmt: skip
        owner, present = _owner_of(out_dir), any((out_dir / name).exists() for name in (*OWNERS, INCOMPLETE))
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
    contents = {name: read_state(out_dir / name, MOVE_IT) for name in (*OWNERS, INCOMPLETE)}
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
    always = (
        "runspec.yaml",
        "eval_set.jsonl",
        *OWNERS,
        *ATTACHMENTS,
        PLATFORM,
        *ABOUT_NAMES,
        *SIGNATURE_FILES,
        VERIFY_PY,
        MANIFEST,
    )
    names = (*RENDERED, *always)
    return frozenset({*names, *_listed(folder)}) if is_evidence else frozenset()


def names_to_come(files: Sequence[str], uses: Collection[str]) -> list[str]:
    """The files that a run writes into its evidence folder: those of the spec, and what its kinds of steps leave there."""
    attached = [name for name, (kind, _) in ATTACHMENTS.items() if kind in uses]
    return sorted({*files, "runspec.yaml", "eval_set.jsonl", OWNERS[1], *attached, *ABOUT_NAMES, VERIFY_PY, MANIFEST})


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

    Files of an earlier rendering that are no longer rendered are removed before, signatures over another statement, and
    what killed runs left.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir)
    for stale in out_dir.iterdir():
        if stale.is_file() and stale.name not in contents and _is_listed(stale.name, out_dir):
            stale.unlink()
    if not _is_same(out_dir / STATEMENT, contents[STATEMENT]):
        for name in SIGNATURE_FILES:  # they are over another statement
            (out_dir / name).unlink(missing_ok=True)
    for name, data in sorted(contents.items(), key=lambda item: item[0] != OWNERS[1]):
        path = out_dir / name
        if not _is_same(path, data):
            write_atomic(path, data)
    return [out_dir / name for name in contents]


def _is_same(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


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
