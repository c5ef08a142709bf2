"""Checkpoints: orbax writes the arrays; a digest of every file and one rename make them whole or absent.

    checkpoints/00000025/state/…            what orbax wrote
    checkpoints/00000025/checkpoint.json    the mark: train_step, identity, notes, SHA-256 of every file and of itself

In: a state of arrays. Out: the newest checkpoint whose every byte is what was written; one that is not is passed
over, said, and taken away. ``identity`` binds a checkpoint to what it came from: data, arguments, model, libraries.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from engine.canonical import digest_json, digest_tree, fsync_dir, pretty_json, write_atomic
from engine.errors import Diagnostic, InputInvalid, RunFailed, Where

MARK = "checkpoint.json"
REMOVE_ATTEMPTS, REMOVE_PAUSE_SECONDS = 20, 0.1
Identity = Mapping[str, Any]
OnFallback = Callable[[int, str], None]
Check = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Restored:
    """A state, the train step after which it was saved, and the notes saved with it."""

    state: Any
    train_step: int
    notes: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training. Only one process may use a folder at a time (process.only_writer)."""

    def __init__(self, folder: Path, *, keep: int, identity: Identity) -> None:
        self._folder, self._keep, self._identity = folder, keep, dict(identity)
        self._orbax = ocp.StandardCheckpointer()
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob("*.tmp*"):  # of a process that was killed while it saved
            shutil.rmtree(half)

    def steps(self) -> list[int]:
        """Train steps of the checkpoints there are, oldest first."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def save(self, state: Any, train_step: int, notes: Mapping[str, Any] | None = None) -> None:
        """Write, mark, publish by one rename, then let the oldest go.

        Raises OSError or RunFailed T141 (no space, no permission); what was saved before stays.
        """
        final = self._path(train_step)
        staging = final.with_name(f"{final.name}.tmp")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            self._write_arrays(staging / "state", state)
            _fsync_tree(staging)
            mark = {
                "train_step": train_step,
                "identity": self._identity,
                "notes": dict(notes or {}),
                "files": digest_tree(staging),
            }
            write_atomic(staging / MARK, pretty_json({**mark, "mark_sha256": digest_json(mark)}))
            if final.exists():
                shutil.rmtree(final)
            os.rename(staging, final)
        except BaseException:
            _take_away(staging)  # a full disk needs the room
            raise
        fsync_dir(self._folder)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._path(old))

    def restore(self, like: Any, on_fallback: OnFallback, check: Check = lambda _: None) -> Restored | None:
        """The newest good checkpoint, laid out as ``like``; None where there is none.

        ``check(notes)`` may name one more reason to distrust a checkpoint. Each one passed over is reported to
        ``on_fallback(train_step, reason)`` and deleted. Raises InputInvalid T120 where the newest good one belongs
        to another training; then nothing is deleted.
        """
        damaged: dict[int, str] = {}
        found: Restored | None = None
        for train_step in reversed(self.steps()):
            outcome = self._try(train_step, like, check)
            if isinstance(outcome, Restored):
                found = outcome
                break
            damaged[train_step] = outcome
        then = f"training goes on from train step {found.train_step}" if found else "training starts from the beginning"
        for train_step, reason in damaged.items():
            on_fallback(train_step, f"{reason}; {then}")
            shutil.rmtree(self._path(train_step))
        return found

    def _try(self, train_step: int, like: Any, check: Check) -> Restored | str:
        """The checkpoint, or why it cannot be trusted. Raises InputInvalid T120."""
        mark = self._mark(train_step)
        if mark is None:
            return f"{MARK} is missing or damaged"
        reason = self._damage(train_step, mark["files"]) or check(mark["notes"])
        if reason is not None:
            return reason
        self._refuse_foreign(train_step, mark["identity"])
        shapes = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in _leaves(like).items()
        }
        leaves = self._orbax.restore(self._path(train_step).resolve() / "state", shapes)
        return Restored(_like(like, leaves), train_step, mark["notes"])

    def _write_arrays(self, folder: Path, state: Any) -> None:
        try:
            self._orbax.save(folder.resolve(), _leaves(state))
            self._orbax.wait_until_finished()
        except (ValueError, RuntimeError) as error:  # how tensorstore's C++ reports a failed write
            raise RunFailed(
                "T141",
                f"the checkpoint cannot be written: {str(error).splitlines()[0][:200]}",
                where=Where(file=str(self._folder)),
                hint="free some room there, or save less often and keep fewer (save_every_steps, keep_checkpoints)",
            ) from error

    def _path(self, train_step: int) -> Path:
        return self._folder / f"{train_step:08d}"

    def _mark(self, train_step: int) -> dict[str, Any] | None:
        """The mark if every byte of it is what was written."""
        try:
            mark = json.loads((self._path(train_step) / MARK).read_bytes())
            expected = mark.pop("mark_sha256")
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None
        return mark if digest_json(mark) == expected and mark["train_step"] == train_step else None

    def _damage(self, train_step: int, expected: Mapping[str, str]) -> str | None:
        actual = digest_tree(self._path(train_step))
        actual.pop(MARK, None)
        changed = sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
        return f"{len(changed)} of its files are damaged: {', '.join(changed[:3])}" if changed else None

    def _refuse_foreign(self, train_step: int, theirs: Identity) -> None:
        ours = json.loads(pretty_json(self._identity))
        differing = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
        if not differing:
            return
        raise InputInvalid.of(
            Diagnostic(
                "T120",
                f"the checkpoint of train step {train_step} belongs to another training: "
                f"{key} was {_short(theirs.get(key))}, now it is {_short(ours.get(key))}",
                Where(file=str(self._folder)),
                hint="train into an empty work folder, or go back to what it was",
            )
            for key in differing
        )


def _take_away(folder: Path) -> None:
    """Remove a folder into which tensorstore's threads may still be writing for a moment."""
    for _ in range(REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVE_PAUSE_SECONDS)


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _leaves(state: Any) -> dict[str, jax.Array]:
    """Dotted path -> array, the form that outlives changes of container classes."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _like(state: Any, leaves: Mapping[str, jax.Array]) -> Any:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    return jax.tree.unflatten(jax.tree.structure(state), [leaves[path] for path in paths])


def _fsync_tree(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_dir():
            fsync_dir(path)
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    fsync_dir(root)
