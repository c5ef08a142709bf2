"""Checkpoints: orbax writes the arrays; a digest of every file and one rename make them whole or absent.

    checkpoints/00000025/state/…            what orbax wrote
    checkpoints/00000025/checkpoint.json    train_step, identity, SHA-256 of every file; written last

In: a state of arrays. Out: the newest checkpoint whose every byte is what was written; one that is not is passed
over, and said. ``identity`` binds a checkpoint to what it came from: data, arguments, model, libraries.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from engine.canonical import digest_tree, fsync_dir, pretty_json, write_atomic
from engine.errors import Diagnostic, InputInvalid

MARK = "checkpoint.json"
Identity = Mapping[str, Any]
OnFallback = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """A state and the train step after which it was saved."""

    state: Any
    train_step: int


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, folder: Path, *, keep: int, identity: Identity) -> None:
        self._folder, self._keep, self._identity = folder, keep, dict(identity)
        self._orbax = ocp.StandardCheckpointer()
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob("*.tmp*"):  # of a process that was killed while it saved
            shutil.rmtree(half, ignore_errors=True)

    def steps(self) -> list[int]:
        """Train steps of the checkpoints there are, oldest first."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def save(self, state: Any, train_step: int) -> None:
        """Write, mark, publish by one rename, then let the oldest go. Raises OSError (no space, no permission)."""
        final = self._path(train_step)
        staging = final.with_name(f"{final.name}.tmp")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self._orbax.save(staging.resolve() / "state", _leaves(state))
        self._orbax.wait_until_finished()
        mark = {"train_step": train_step, "identity": self._identity, "files": digest_tree(staging)}
        _fsync_tree(staging)
        write_atomic(staging / MARK, pretty_json(mark))
        shutil.rmtree(final, ignore_errors=True)
        os.rename(staging, final)
        fsync_dir(self._folder)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    def restore(self, like: Any, on_fallback: OnFallback) -> Restored | None:
        """The newest good checkpoint, laid out as ``like``; None where there is none.

        Each one passed over is reported to ``on_fallback(train_step, reason)``. Raises InputInvalid T120 where
        the newest good one belongs to another training.
        """
        for train_step in reversed(self.steps()):
            reason = self._damage(train_step)
            if reason is not None:
                on_fallback(train_step, reason)
                continue
            self._refuse_foreign(train_step)
            shapes = {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                for name, leaf in _leaves(like).items()
            }
            found = self._orbax.restore(self._path(train_step).resolve() / "state", shapes)
            return Restored(_like(like, found), train_step)
        return None

    def _path(self, train_step: int) -> Path:
        return self._folder / f"{train_step:08d}"

    def _mark(self, train_step: int) -> dict[str, Any]:
        mark: dict[str, Any] = json.loads((self._path(train_step) / MARK).read_text(encoding="utf-8"))
        return mark

    def _damage(self, train_step: int) -> str | None:
        """Why this checkpoint cannot be trusted, or None."""
        try:
            expected = self._mark(train_step)["files"]
        except (OSError, ValueError, KeyError) as error:
            return f"its mark cannot be read ({type(error).__name__})"
        actual = digest_tree(self._path(train_step))
        actual.pop(MARK, None)
        changed = sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
        return f"{len(changed)} of its files are damaged: {', '.join(changed[:3])}" if changed else None

    def _refuse_foreign(self, train_step: int) -> None:
        theirs = self._mark(train_step)["identity"]
        differing = sorted(key for key in {*theirs, *self._identity} if theirs.get(key) != self._identity.get(key))
        if differing:
            raise InputInvalid.of(
                [
                    Diagnostic(
                        "T120",
                        f"the checkpoint of train step {train_step} belongs to another training: its {key} differs "
                        f"({theirs.get(key)}, now {self._identity.get(key)})",
                        hint="train into an empty work folder, or go back to what it was",
                    )
                    for key in differing
                ]
            )


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
