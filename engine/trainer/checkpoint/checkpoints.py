"""Checkpoints: orbax writes the arrays while training continues; digests and one rename make them complete or absent.

    checkpoints/00000025/state/…            what orbax wrote
    checkpoints/00000025/checkpoint.json    the manifest, written last: identity, SHA-256 of every file and of itself

In: a state of arrays. Out: the newest checkpoint whose every byte is what was written; a damaged one is skipped,
reported and deleted. :class:`~engine.trainer.checkpoint.manifest.IdentityCheck` says which run may resume from it.

    checkpoints.begin(state, 25)      # returns when the next train step may overwrite the arrays: they are copied to the
                                      # host, or, if the device is the host, held by views that no donation overwrites
    checkpoints.published()           # at each train step: what was published since
    checkpoints.check()               # … and raise what went wrong
    checkpoints.wait()                # until no save is running

With several processes each writes its own devices' shards into one shared folder, and process 0 does the rest: it looks
for damage, chooses the checkpoint, writes the manifest, publishes, deletes.

One save at a time: a second one waits for the first, so that the host never holds more than one copy of the state.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from engine.canonical import digest_tree
from engine.errors import RunFailed, Where
from engine.protocol.checkpoint_files import MANIFEST_FILE
from engine.protocol.disk_space import training_disk_bytes
from engine.temporary import fsync_dir
from engine.trainer.checkpoint import disk_space
from engine.trainer.checkpoint.manifest import (
    IdentityCheck,
    Manifest,
    Notes,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from engine.trainer.checkpoint.retention import Retention, best_steps
from engine.trainer.distributed.placement import PyTree
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup

REMOVE_ATTEMPTS, REMOVE_PAUSE_SECONDS = 20, 0.1
REASONS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
WRITE_ERRORS = (ValueError, RuntimeError)  # how tensorstore's C++ reports a failed write
OnFallback = Callable[[int, str], None]
Check = Callable[[Notes], str | None]


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """A state, the train step after which it was saved, and its manifest."""

    state: PyTree
    train_step: int
    manifest: Manifest

    @property
    def notes(self) -> Notes:
        """What the trainer noted at the save."""
        return self.manifest.notes


@dataclass(frozen=True, slots=True)
class Saved:
    """A published checkpoint: seconds from its beginning, and those of them that training stalled."""

    train_step: int
    seconds: float
    stalled_seconds: float


class Checkpoints:
    """The checkpoints of one training run. Only one run may use a folder at a time (process.only_writer)."""

    def __init__(
        self, folder: Path, *, keep: Retention, identity_check: IdentityCheck, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self._folder, self._retention, self._identity_check, self._processes = folder, keep, identity_check, processes
        self._orbax = ocp.StandardCheckpointer()
        self._thread: threading.Thread | None = None
        self._published: deque[Saved] = deque()  # appended by the thread, taken by the train loop
        self._bytes = 0
        self._failure: BaseException | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not processes.is_writer:
            return
        for partial in folder.glob("*.tmp*"):  # of a process that was killed while it saved
            shutil.rmtree(partial)

    def steps(self) -> list[int]:
        """Train steps of the existing checkpoints, oldest first."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit() and path.is_dir())

    def digest(self, train_step: int) -> str | None:
        """The digest of the manifest of this train step's checkpoint."""
        return manifest_digest(self._path(train_step))

    def eval_losses(self) -> dict[int, float | None]:
        """Train step -> the eval loss in its notes; None if it has none, or no manifest that can be trusted."""
        manifests = {step: read_manifest(self._path(step)) for step in self.steps()}
        return {step: manifest.notes.get("eval_loss") if manifest else None for step, manifest in manifests.items()}

    # -- saving ------------------------------------------------------------------------------------------------------

    def begin(self, state: PyTree, train_step: int, notes: Notes | None = None) -> None:
        """Begin a save, after the running one. The caller may donate ``state`` as soon as this returns.

        Raises OSError or RunFailed T141, T143 (no space, no permission) of this save or of the previous one; earlier
        checkpoints stay.
        """
        started = time.perf_counter()
        self.wait()
        self.check()
        staging = self._path(train_step).with_suffix(".tmp")
        if self._processes.is_writer:
            self._free_space_for(state)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        self._processes.barrier("staging")
        try:
            self._orbax.save(staging.resolve() / "state", _leaves(state))
        except BaseException as error:
            _remove(staging)  # a full disk needs the space
            if isinstance(error, WRITE_ERRORS):
                raise self._write_failure(error) from error
            raise
        stalled = time.perf_counter() - started
        self._thread = threading.Thread(
            target=self._finish, args=(staging, train_step, dict(notes or {}), started, stalled), name="checkpoint"
        )
        self._thread.start()

    def published(self) -> Iterator[Saved]:
        """What was published since the last call, each once."""
        while self._published:
            yield self._published.popleft()

    def check(self) -> None:
        """Raises the last save's error, once: see :meth:`begin`."""
        error, self._failure = self._failure, None
        if isinstance(error, WRITE_ERRORS):
            raise self._write_failure(error) from error
        if error is not None:
            raise error

    def _write_failure(self, error: BaseException) -> RunFailed:
        hint = "free some disk space there, or save less often and keep fewer (save_every_steps, keep_checkpoints)"
        reason = str(error).splitlines()[0][:200]
        for number in REASONS:  # tensorstore's own first line is the source location, with a long path
            if os.strerror(number) in str(error):
                reason = os.strerror(number)
                hint = "raise the limit: ulimit -f" if number == errno.EFBIG else hint
        message = f"the checkpoint cannot be written: {reason}"
        return RunFailed("T141", message, where=Where(file=str(self._folder)), hint=hint)

    @property
    def idle(self) -> bool:
        """True if no save is running."""
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until no save is running."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def save(self, state: PyTree, train_step: int, notes: Notes | None = None) -> None:
        """Save, and wait for the end."""
        self.begin(state, train_step, notes)
        self.wait()
        self.check()

    def _finish(self, staging: Path, train_step: int, notes: Notes, started: float, stalled: float) -> None:
        """In the background: wait for the arrays, write the manifest, publish by one rename, delete old ones."""
        try:
            self._orbax.wait_until_finished()
            if not self._processes.is_writer:
                return
            _fsync_tree(staging)
            write_manifest(staging, self._manifest_of(staging, train_step, notes))
            final = self._path(train_step)
            if final.exists():
                shutil.rmtree(final)
            os.rename(staging, final)
            fsync_dir(self._folder)
            for step in self._retention.to_delete(self.eval_losses()):
                shutil.rmtree(self._path(step))
            self._published.append(Saved(train_step, time.perf_counter() - started, stalled))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the train loop's thread raises it
            _remove(staging)
            self._failure = error

    def _manifest_of(self, staging: Path, train_step: int, notes: Notes) -> Manifest:
        per_step = self._identity_check.sequences_per_step
        return Manifest(
            train_step=train_step,
            identity=self._identity_check.identity,
            topology=self._identity_check.topology.as_json(),
            data_position={"sequences_seen": train_step * per_step, "sequences_per_step": per_step},
            notes=notes,
            bytes=sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()),
            files=digest_tree(staging),
        )

    # -- disk space --------------------------------------------------------------------------------------------------

    def require_space(self, state: PyTree, *, saves: int, last: int, model: int = 0) -> None:
        """Before ``saves`` checkpoints up to train step ``last``, and the export of ``model`` bytes after them.

        Raises RunFailed T143 if they do not fit, beside those that exist and by the arithmetic of ``plan``.
        """
        if not self._processes.is_writer:
            return
        self._bytes = disk_space.checkpoint_bytes(state)
        existing, kept = len(self.steps()), self._retention.kept
        most = training_disk_bytes(
            checkpoint=self._bytes, model=model, saves=existing + saves, last_train_step=last, kept=kept
        )
        count = max(1, kept.most_at_once(existing + saves, last) - existing)
        needed = max(most - existing * self._bytes, count * self._bytes)
        self._require(needed, _checkpoints(count) + (" and the model" if needed > count * self._bytes else ""))

    def require_space_for_next(self) -> None:
        """Right after a checkpoint, when no train step would be lost: raises RunFailed T143."""
        self._require(self._bytes, also=sum(self._size(step) for step in self._deletable()))

    def _free_space_for(self, state: PyTree) -> None:
        """If the new one does not fit, delete first what would be deleted after it. Raises RunFailed T143."""
        self._bytes = disk_space.checkpoint_bytes(state)
        if disk_space.free_bytes(self._folder) < self._bytes:
            for step in self._deletable():
                shutil.rmtree(self._path(step))
        self._require(self._bytes)

    def _deletable(self) -> list[int]:
        """What is deleted once there is a newer one; never the newest, which may be the only good one."""
        losses = self.eval_losses()
        newest = max(losses, default=0)
        return [step for step in self._retention.to_delete(losses | {newest + 1: None}) if step != newest]

    def _size(self, step: int) -> int:
        return sum(path.stat().st_size for path in self._path(step).rglob("*") if path.is_file())

    def _require(self, needed: int, what: str = "the next checkpoint", *, also: int = 0) -> None:
        last = self.steps()[-1:]
        saved = f"the checkpoint of train step {last[0]} is kept" if last else "nothing has been saved yet"
        disk_space.require(needed, self._folder, what=what, saved=saved, also=also)

    # -- restoring ---------------------------------------------------------------------------------------------------

    def restore(
        self, like: PyTree, on_fallback: OnFallback, check: Check = lambda _: None
    ) -> RestoredCheckpoint | None:
        """The newest good checkpoint, laid out as ``like`` (arrays or shapes); None if there is none.

        The arrays of ``like`` are deleted as soon as it is certain that others replace them, so that memory for one
        state is enough. ``check(notes)`` may name one more reason to reject a checkpoint. Each rejected one is reported
        to ``on_fallback(train_step, reason)`` and deleted. Raises InputInvalid T120, T122, T123 if the newest good one
        belongs to another training run, engine or machine; then nothing is deleted.
        """
        train_step = self._processes.agree("restore", lambda: self._newest_good(on_fallback, check))
        if train_step is None:
            return None
        restored = self._read(train_step, like)
        self._identity_check = replace(self._identity_check, sequences_per_step=restored.manifest.sequences_per_step)
        return restored

    def _newest_good(self, on_fallback: OnFallback, check: Check) -> int | None:
        """The newest good one; newer ones are reported and deleted."""
        damaged: dict[int, str] = {}
        good: int | None = None
        for train_step in reversed(self.steps()):
            reason = self._reject(train_step, check)
            if reason is None:
                good = train_step
                break
            damaged[train_step] = reason
        then = f"training resumes from train step {good}" if good else "training starts from the beginning"
        for train_step, reason in damaged.items():
            on_fallback(train_step, f"{reason}; {then}")
            shutil.rmtree(self._path(train_step))
        return good

    def restore_best(self, like: PyTree) -> RestoredCheckpoint | None:
        """The good one of lowest eval loss, replacing ``like``'s arrays; None if none has an eval loss."""

        def best() -> int | None:
            steps = best_steps(self.eval_losses())
            return next((step for step in steps if self._reject(step, lambda _: None) is None), None)

        train_step = self._processes.agree("restore", best)
        return None if train_step is None else self._read(train_step, like)

    def _reject(self, train_step: int, check: Check) -> str | None:
        """Why the checkpoint cannot be used, or None. Raises InputInvalid T120, T122, T123."""
        folder = self._path(train_step)
        manifest = read_manifest(folder)
        if manifest is None:
            return f"{MANIFEST_FILE} is missing or damaged"
        reason = _damage(folder, manifest.files) or check(manifest.notes)
        if reason is not None:
            return reason
        self._identity_check.check(manifest, self._folder)
        return None

    def _read(self, train_step: int, like: PyTree) -> RestoredCheckpoint:
        """A good one; each process reads its own devices' shards."""
        folder = self._path(train_step)
        manifest = read_manifest(folder)
        assert manifest is not None
        shapes = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in _leaves(like).items()
        }
        for leaf in jax.tree.leaves(like):
            if isinstance(leaf, jax.Array):
                leaf.delete()
        leaves = self._orbax.restore(folder.resolve() / "state", shapes)
        return RestoredCheckpoint(_as_tree(like, leaves), train_step, manifest)

    def _path(self, train_step: int) -> Path:
        return self._folder / f"{train_step:08d}"


def _checkpoints(count: int) -> str:
    return "the next checkpoint" if count == 1 else f"{count} checkpoints"


def _damage(folder: Path, expected: Mapping[str, str]) -> str | None:
    actual = digest_tree(folder)
    actual.pop(MANIFEST_FILE, None)
    changed = sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
    return f"damaged: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}" if changed else None


def _remove(folder: Path) -> None:
    """Delete a folder into which tensorstore's threads may still be writing for a moment."""
    for _ in range(REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVE_PAUSE_SECONDS)


def _leaves(state: PyTree) -> dict[str, jax.Array]:
    """Path -> array, the form that outlives changes of container classes."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _as_tree(like: PyTree, leaves: Mapping[str, jax.Array]) -> PyTree:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in paths])


def _fsync_tree(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_dir():
            fsync_dir(path)
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    fsync_dir(root)
