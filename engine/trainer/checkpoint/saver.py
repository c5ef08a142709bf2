"""When checkpoints are saved, and their events: the train loop's side of :mod:`engine.trainer.checkpoint.checkpoints`.

In: the work folder, arguments, the identity of the training run. Out: its checkpoints, and events:

    restored {train_step}, resharded {train_step, was, now, micro_batches}, fallback {train_step, reason},
    checkpoint {train_step, seconds, stalled_seconds} once it is published, ready_to_die {train_step},
    cadence {save_every_steps, …} where nobody declared how often

A save that fails, and a disk without space for the next one, stop the training run at the next train step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from engine.errors import RunspecError
from engine.protocol.disk_space import saves_between
from engine.protocol.events.base import Note
from engine.protocol.events.checkpoints import CheckpointSaved, CheckpointUnusable, ReadyForKill, Resharded, Restored
from engine.protocol.events.training import CadenceChosen
from engine.protocol.train_args import TrainArgs
from engine.trainer.checkpoint.checkpoints import Checkpoints, RestoredCheckpoint
from engine.trainer.checkpoint.manifest import IdentityCheck, Notes
from engine.trainer.checkpoint.retention import Retention
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.distributed.placement import PyTree
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup
from engine.trainer.metrics import mismatch
from engine.trainer.process import Emit, Stopping
from engine.trainer.session.guard import SessionGuard

WAIT_SECONDS = 0.05


class Move(TypedDict):
    """A resume on other devices: the two topologies, in words."""

    train_step: int
    was: str
    now: str
    micro_batches: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a training run starts: after ``train_step``, with these arguments, after moves from other devices.

    ``moves``: of this attempt and earlier ones. ``digest``: of the checkpoint's manifest.
    """

    state: PyTree
    train_step: int
    notes: Notes | None
    args: TrainArgs
    moves: tuple[Move, ...]
    digest: str | None = None


class Saver:
    """The checkpoints of one training run. Leaving it waits for the running save."""

    def __init__(
        self,
        work: Path,
        args: TrainArgs,
        identity_check: IdentityCheck,
        *,
        last: int,
        emit: Emit,
        stop_after: int | None,
        processes: ProcessGroup = SINGLE_PROCESS,
        guard: SessionGuard | None = None,
    ) -> None:
        self._guard, self._every = guard, args.save_every_steps
        self._args, self._identity_check, self._last = args, identity_check, last
        self._emit, self._stop_after = emit, stop_after
        self._metrics = work / "metrics.jsonl"
        retention = Retention(args.keep_checkpoints, args.keep_every_steps, args.keep_best)
        self.checkpoints = Checkpoints(
            work / "checkpoints", keep=retention, identity_check=identity_check, processes=processes
        )
        self._saves = 0
        self._newest = 0  # the train step of the newest checkpoint, published or being saved
        self._moves: tuple[Move, ...] = ()
        self._space_unchecked = False  # True from a checkpoint until the disk space is checked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The running save is published, whatever ended training; its failure is raised or, after another error, noted."""
        self.checkpoints.wait()
        try:
            self._report()
        except (RunspecError, OSError) as failure:
            if error is None:
                raise
            self._emit(Note(f"the last checkpoint was not saved: {failure}"))

    def restore(self, fresh: PyTree, *, model_bytes: int = 0) -> Origin:
        """The newest good checkpoint, or the beginning. Raises InputInvalid T120, T122, T123; RunFailed T143.

        ``model_bytes``: those of the model that is exported at the end.

        On other devices (declared by ``on_other_devices: reshard``) a train step keeps its sequences, in as many
        micro-batches as that needs.
        """
        found = self.checkpoints.restore(fresh, self._report_fallback, lambda notes: mismatch(self._metrics, notes))
        self._newest = found.train_step if found else 0
        saves = saves_between(self._newest, self._last, self._args.save_every_steps)
        if saves:
            self.checkpoints.require_space(fresh, saves=saves, last=self._last, model=model_bytes)
        if found is None:
            return Origin(None, 0, None, self._args, ())
        self._emit(Restored(found.train_step))
        args = self._args_on_these_devices(found)
        return Origin(
            found.state, found.train_step, found.notes, args, self._moves, self.checkpoints.digest(found.train_step)
        )

    def _args_on_these_devices(self, restored: RestoredCheckpoint) -> TrainArgs:
        """The arguments with which these devices take the same batch; a change of devices is an event and kept."""
        now, args = self._identity_check.topology, self._args
        if self._identity_check.reshard:
            args = replace(args, global_batch_size=restored.manifest.sequences_per_step)
        parts = batch_of(args, now.mesh.get("fsdp", 1)).micro_batches
        self._moves = tuple(restored.notes.get("moves", ()))
        between = self._identity_check.move(restored.manifest)
        if between is not None:
            was, here = between
            move: Move = {"train_step": restored.train_step, "was": was, "now": here, "micro_batches": parts}
            self._moves = (*self._moves, move)
            self._emit(Resharded(restored.train_step, was, here, parts))
        return args

    def _report_fallback(self, train_step: int, reason: str) -> None:
        self._emit(CheckpointUnusable(train_step, reason))

    def due(self, train_step: int) -> bool:
        """Whether a checkpoint is saved after this train step."""
        if train_step == self._last:
            return True
        if self._every == self._args.save_every_steps:
            return train_step % self._every == 0
        return train_step - self._newest >= self._every

    @property
    def newest(self) -> int:
        """The train step of the newest checkpoint, published or being saved."""
        return self._newest

    def save(self, state: PyTree, train_step: int, notes: Notes, stopping: Stopping) -> None:
        """Begin a checkpoint, unless this step has one; returns while it is written, except for the smoke run's last."""
        if self._newest == train_step:
            return
        notes = {**notes, "moves": list(self._moves)} if self._moves else notes
        self.checkpoints.begin(state, train_step, notes)
        self._newest = train_step
        self._saves += 1
        if self._saves == self._stop_after:
            self.finish()
            self._emit(ReadyForKill(train_step))
            while not stopping():  # the smoke run kills us here, for real
                time.sleep(WAIT_SECONDS)

    def step(self) -> None:
        """At each train step: events of what was published since. Raises RunFailed T141, T143, OSError."""
        self._report()
        if self._space_unchecked and self.checkpoints.idle and self._newest < self._last:
            self._space_unchecked = False
            self.checkpoints.require_space_for_next()

    def finish(self) -> None:
        """Wait until every checkpoint is published, or has failed."""
        self.checkpoints.wait()
        self._report()

    def best(self, like: PyTree) -> RestoredCheckpoint | None:
        """The good checkpoint of lowest eval loss, or None if none has an eval loss."""
        return self.checkpoints.restore_best(like)

    def _report(self) -> None:
        """Events of what was published; raises what went wrong."""
        for one in self.checkpoints.published():
            self._space_unchecked = True
            self._emit(CheckpointSaved(one.train_step, round(one.seconds, 3), round(one.stalled_seconds, 3)))
            if self._guard is not None:
                self._guard.saved(one.seconds)
                self._choose_cadence(self._guard)
        self.checkpoints.check()

    def _choose_cadence(self, guard: SessionGuard) -> None:
        """Once, from the first save: where nobody declared how often, within a session limit."""
        every = guard.save_every(self._args.save_every_steps)
        if self._every == self._args.save_every_steps != every:
            self._every = every
            self._emit(CadenceChosen(every, round(guard.step_seconds, 4), round(guard.save_seconds, 3)))
