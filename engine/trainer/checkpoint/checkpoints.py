"""Checkpoints: orbax writes the arrays while the training goes on; digests and one rename make them whole or absent.

    checkpoints/00000025/state/…            what orbax wrote
    checkpoints/00000025/checkpoint.json    the mark, written last: what it is of, SHA-256 of every file and of itself

In: a state of arrays. Out: the newest checkpoint whose every byte is what was written; one that is not is passed
over, said, and taken away. :class:`~engine.trainer.checkpoint.manifest.IdentityCheck` says which training may go on from it.

    checkpoints.begin(state, 25)      # returns when the numbers are safe from the next train step: copied to the host,
                                      # or, where the device is the host, held by views that no donation overwrites
    checkpoints.published()           # at each train step: what was published since
    checkpoints.check()               # … and what went wrong, raised
    checkpoints.wait()                # until nothing is under way

Over several processes each writes the shares of its own devices into one shared folder, and process 0 does the rest: it
looks for damage, says which checkpoint it is, marks, publishes, lets go.

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
from typing import Any

import jax
import orbax.checkpoint as ocp

from engine.canonical import digest_tree, fsync_dir
from engine.errors import RunFailed, Where
from engine.trainer.checkpoint import disk_space
from engine.trainer.checkpoint.manifest import MANIFEST_FILE, IdentityCheck, Manifest, read_manifest, write_manifest
from engine.trainer.checkpoint.retention import Retention, best_steps
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup

REMOVE_ATTEMPTS, REMOVE_PAUSE_SECONDS = 20, 0.1
REASONS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
UNWRITTEN = (ValueError, RuntimeError)  # how tensorstore's C++ reports a failed write
OnFallback = Callable[[int, str], None]
Check = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """A state, the train step after which it was saved, and the mark it was saved with."""

    state: Any
    train_step: int
    manifest: Manifest

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was said at the save."""
        return self.manifest.notes


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that is published: seconds from its beginning, and of these those that no train step could use."""

    train_step: int
    seconds: float
    stalled_seconds: float


class Checkpoints:
    """The checkpoints of one training. Only one training may use a folder at a time (process.only_writer)."""

    def __init__(
        self, folder: Path, *, keep: Retention, identity_check: IdentityCheck, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self._folder, self._keep, self._identity_check, self._processes = folder, keep, identity_check, processes
        self._orbax = ocp.StandardCheckpointer()
        self._thread: threading.Thread | None = None
        self._published: deque[Saved] = deque()  # appended by the thread, taken by the training
        self._bytes = 0
        self._failure: BaseException | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not processes.is_writer:
            return
        for half in folder.glob("*.tmp*"):  # of a process that was killed while it saved
            shutil.rmtree(half)

    def steps(self) -> list[int]:
        """Train steps of the checkpoints there are, oldest first."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit() and path.is_dir())

    def eval_losses(self) -> dict[int, float | None]:
        """Train step -> the eval loss in its notes; None where it has none, or no mark that can be trusted."""
        marks = {step: read_manifest(self._path(step)) for step in self.steps()}
        return {step: manifest.notes.get("eval_loss") if manifest else None for step, manifest in marks.items()}

    # -- saving ------------------------------------------------------------------------------------------------------

    def begin(self, state: Any, train_step: int, notes: Mapping[str, Any] | None = None) -> None:
        """Begin to save; what is under way is waited for. The caller may donate ``state`` as soon as this returns.

        Raises OSError or RunFailed T141, T143 (no space, no permission) of this save or of the one before; what was
        saved before stays.
        """
        started = time.perf_counter()
        self.wait()
        self.check()
        staging = self._path(train_step).with_suffix(".tmp")
        if self._processes.is_writer:
            self._make_room(state)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        self._processes.barrier("staging")
        try:
            self._orbax.save(staging.resolve() / "state", _leaves(state))
        except BaseException as error:
            _take_away(staging)  # a full disk needs the room
            if isinstance(error, UNWRITTEN):
                raise self._unwritten(error) from error
            raise
        stalled = time.perf_counter() - started
        self._thread = threading.Thread(
            target=self._finish, args=(staging, train_step, dict(notes or {}), started, stalled), name="checkpoint"
        )
        self._thread.start()

    def published(self) -> Iterator[Saved]:
        """What was published since this was last asked, each once."""
        while self._published:
            yield self._published.popleft()

    def check(self) -> None:
        """Raises what the last save met, once: see :meth:`begin`."""
        error, self._failure = self._failure, None
        if isinstance(error, UNWRITTEN):
            raise self._unwritten(error) from error
        if error is not None:
            raise error

    def _unwritten(self, error: BaseException) -> RunFailed:
        hint = "free some room there, or save less often and keep fewer (save_every_steps, keep_checkpoints)"
        reason = str(error).splitlines()[0][:200]
        for number in REASONS:  # what tensorstore says first is where it happened, with the whole path
            if os.strerror(number) in str(error):
                reason = os.strerror(number)
                hint = "raise the limit: ulimit -f" if number == errno.EFBIG else hint
        message = f"the checkpoint cannot be written: {reason}"
        return RunFailed("T141", message, where=Where(file=str(self._folder)), hint=hint)

    @property
    def idle(self) -> bool:
        """True where nothing is under way."""
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> None:
        """Until nothing is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def save(self, state: Any, train_step: int, notes: Mapping[str, Any] | None = None) -> None:
        """Begin, and wait for the end."""
        self.begin(state, train_step, notes)
        self.wait()
        self.check()

    def _finish(self, staging: Path, train_step: int, notes: Mapping[str, Any], started: float, stalled: float) -> None:
        """In the background: wait for the arrays, mark, publish by one rename, let the oldest go."""
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
            for step in self._keep.let_go(self.eval_losses()):
                shutil.rmtree(self._path(step))
            self._published.append(Saved(train_step, time.perf_counter() - started, stalled))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the training's own thread raises it
            _take_away(staging)
            self._failure = error

    def _manifest_of(self, staging: Path, train_step: int, notes: Mapping[str, Any]) -> Manifest:
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

    # -- room --------------------------------------------------------------------------------------------------------

    def require_room(self, state: Any, *, saves: int, last: int) -> None:
        """Before ``saves`` checkpoints up to train step ``last``: raises RunFailed T143 where they cannot all lie here."""
        if not self._processes.is_writer:
            return
        self._bytes = disk_space.checkpoint_bytes(state)
        there = len(self.steps())
        self._require(max(1, self._keep.at_once(there + saves, last) - there))

    def require_room_for_next(self) -> None:
        """Right after a checkpoint, when no train step would be lost: raises RunFailed T143."""
        self._require(1, also=sum(self._size(step) for step in self._may_go()))

    def _make_room(self, state: Any) -> None:
        """Where the new one does not fit, those go first that would go after it. Raises RunFailed T143."""
        self._bytes = disk_space.checkpoint_bytes(state)
        if disk_space.free_bytes(self._folder) < self._bytes:
            for step in self._may_go():
                shutil.rmtree(self._path(step))
        self._require(1)

    def _may_go(self) -> list[int]:
        """What goes once there is a newer one; never the newest, which may be the only good one."""
        losses = self.eval_losses()
        newest = max(losses, default=0)
        return [step for step in self._keep.let_go(losses | {newest + 1: None}) if step != newest]

    def _size(self, step: int) -> int:
        return sum(path.stat().st_size for path in self._path(step).rglob("*") if path.is_file())

    def _require(self, count: int, also: int = 0) -> None:
        last = self.steps()[-1:]
        kept = f"the checkpoint of train step {last[0]} is kept" if last else "nothing has been saved yet"
        disk_space.require(self._bytes, self._folder, count=count, kept=kept, also=also)

    # -- restoring ---------------------------------------------------------------------------------------------------

    def restore(self, like: Any, on_fallback: OnFallback, check: Check = lambda _: None) -> RestoredCheckpoint | None:
        """The newest good checkpoint, laid out as ``like`` (arrays or shapes); None where there is none.

        Arrays are deleted as soon as it is certain that others take their place: a state that fits once is enough.
        ``check(notes)`` may name one more reason to distrust a checkpoint. Each one passed over is reported to
        ``on_fallback(train_step, reason)`` and deleted. Raises InputInvalid T120, T122, T123 where the newest good one
        belongs to another training, engine or machine; then nothing is deleted.
        """
        chosen = self._processes.agree("restore", lambda: self._choose(on_fallback, check))
        if chosen is None:
            return None
        found = self._read(chosen, like)
        self._identity_check = replace(self._identity_check, sequences_per_step=found.manifest.sequences_per_step)
        return found

    def _choose(self, on_fallback: OnFallback, check: Check) -> int | None:
        """The newest good one; what is passed over is said and deleted."""
        damaged: dict[int, str] = {}
        found: int | None = None
        for train_step in reversed(self.steps()):
            reason = self._distrust(train_step, check)
            if reason is None:
                found = train_step
                break
            damaged[train_step] = reason
        then = f"training goes on from train step {found}" if found else "training starts from the beginning"
        for train_step, reason in damaged.items():
            on_fallback(train_step, f"{reason}; {then}")
            shutil.rmtree(self._path(train_step))
        return found

    def restore_best(self, like: Any) -> RestoredCheckpoint | None:
        """The good one of lowest eval loss, in place of ``like``'s arrays; None where none has one."""

        def best() -> int | None:
            steps = best_steps(self.eval_losses())
            return next((step for step in steps if self._distrust(step, lambda _: None) is None), None)

        chosen = self._processes.agree("restore", best)
        return None if chosen is None else self._read(chosen, like)

    def _distrust(self, train_step: int, check: Check) -> str | None:
        """Why the checkpoint cannot be trusted, or None. Raises InputInvalid T120, T122, T123."""
        folder = self._path(train_step)
        manifest = read_manifest(folder)
        if manifest is None:
            return f"{MANIFEST_FILE} is missing or damaged"
        reason = _damage(folder, manifest.files) or check(manifest.notes)
        if reason is not None:
            return reason
        self._identity_check.check(manifest, self._folder)
        return None

    def _read(self, train_step: int, like: Any) -> RestoredCheckpoint:
        """One that can be trusted; each process reads the shares of its own devices."""
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
        return RestoredCheckpoint(_like(like, leaves), train_step, manifest)

    def _path(self, train_step: int) -> Path:
        return self._folder / f"{train_step:08d}"


def _damage(folder: Path, expected: Mapping[str, str]) -> str | None:
    actual = digest_tree(folder)
    actual.pop(MANIFEST_FILE, None)
    changed = sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
    return f"damaged: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}" if changed else None


def _take_away(folder: Path) -> None:
    """Remove a folder into which tensorstore's threads may still be writing for a moment."""
    for _ in range(REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVE_PAUSE_SECONDS)


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
