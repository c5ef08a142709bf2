"""Which files of an unfinished step the next session needs, on whatever machine: the newest good checkpoint and the rows up to it; the answers
so far. Nothing else: older checkpoints, logs and job files stay behind.

In: the step's ``work`` folder and its arguments. Out: :class:`Carried`. Of several checkpoints the newest whose every byte is what was
written counts; with ``keep_best`` those of lowest eval loss are needed too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.canonical import digest_json, digest_tree, unsealed
from engine.protocol.checkpoint_files import ANSWERS_FILE, CHECKPOINTS, MANIFEST_FILE, METRICS_FILE, SEAL
from engine.protocol.sessions import rows_at


@dataclass(frozen=True, slots=True)
class Carried:
    """``files``: relative to ``work``; ``sessions``: the chain that they end; ``said``: how far the step is, for a person."""

    files: tuple[str, ...]
    said: str
    sessions: tuple[Mapping[str, Any], ...] = ()


def training_files(work: Path, args: Mapping[str, Any]) -> Carried | None:
    """Of a ``train_sft`` step; None where it has no checkpoint yet."""
    newest = next(good_checkpoints(work), None)
    if newest is None:
        return None
    name, manifest = newest
    best = _best(work, name, int(args.get("keep_best") or 0))
    folders = [f"{CHECKPOINTS}/{one}" for one in dict.fromkeys([name, *best])]
    files = [f"{folder}/{file}" for folder in folders for file in sorted(_names(work / folder))]
    rows = rows_at(manifest["notes"], int(name), digest_json(manifest))
    said = f"train step {int(name)} of {args['num_train_steps']}"
    return Carried((*files, METRICS_FILE), said, tuple(rows))


def generated_files(work: Path, _: Mapping[str, Any]) -> Carried | None:
    """Of a ``generate`` step."""
    file = work / ANSWERS_FILE
    if not file.is_file():
        return None
    return Carried(
        (ANSWERS_FILE,), f"{max(0, len(file.read_bytes().splitlines()) - 1)} answers"
    )  # the first line is their key


def good_checkpoints(work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the folder, its manifest) of those that can be resumed from, the newest first. Reads every byte of one."""
    folder = work / CHECKPOINTS
    names = sorted((path.name for path in folder.glob("*") if path.name.isdigit()), reverse=True)
    for name in names if folder.is_dir() else ():
        manifest = manifest_of(folder / name)
        if manifest is not None and _is_whole(folder / name, manifest):
            yield name, manifest


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint's manifest says; None where it is not what was written."""
    try:
        values = unsealed((folder / MANIFEST_FILE).read_bytes(), SEAL)
    except OSError:
        return None
    return values if values is not None and isinstance(values.get("files"), dict) else None


def _is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    found = {name: digest for name, digest in digest_tree(folder).items() if name != MANIFEST_FILE}
    return found == dict(manifest["files"])


def _names(folder: Path) -> list[str]:
    manifest = manifest_of(folder)
    return [*(manifest["files"] if manifest else ()), MANIFEST_FILE]


def _best(work: Path, newest: str, count: int) -> list[str]:
    """The checkpoints of lowest eval loss, the earlier of equals first."""
    losses: dict[str, float] = {}
    for path in (work / CHECKPOINTS).glob("*") if count else ():
        manifest = manifest_of(path) if path.name.isdigit() and path.name <= newest else None
        loss = manifest["notes"].get("eval_loss") if manifest else None
        if isinstance(loss, float) and math.isfinite(loss):
            losses[path.name] = loss
    return sorted(losses, key=lambda name: (losses[name], name))[:count]
