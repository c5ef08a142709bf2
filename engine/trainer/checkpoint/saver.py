"""When checkpoints are made and what is said of them: the training's side of :mod:`engine.trainer.checkpoint.checkpoints`.

In: the work folder, arguments, what the training is made of. Out: its checkpoints, as events:

    restored {train_step}, resharded {train_step, was, now, micro_batches}, fallback {train_step, reason},
    checkpoint {train_step, seconds, stalled_seconds} once it is published, ready_to_die {train_step}

A save that fails, and a disk that has no room for the next one, stop the training at the next train step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.errors import RunspecError
from engine.protocol.events.base import Note
from engine.protocol.events.checkpoints import CheckpointSaved, CheckpointUnusable, ReadyForKill, Resharded, Restored
from engine.protocol.train_args import TrainArgs
from engine.trainer.checkpoint.checkpoints import Checkpoints, RestoredCheckpoint
from engine.trainer.checkpoint.manifest import IdentityCheck
from engine.trainer.checkpoint.retention import Retention
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup
from engine.trainer.distributed.topology import Topology
from engine.trainer.metrics import mismatch
from engine.trainer.process import Emit, Stopping

WAIT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a training begins: at ``train_step`` with these arguments, after moves from other devices.

    ``moves``: [{train_step, was, now, micro_batches}] of this attempt and those before it.
    """

    state: Any
    train_step: int
    notes: Mapping[str, Any] | None
    args: TrainArgs
    moves: tuple[Mapping[str, Any], ...]


class Saver:
    """The checkpoints of one training. Leave it to let a save that is under way end."""

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
    ) -> None:
        self._args, self._identity_check, self._last = args, identity_check, last
        self._emit, self._stop_after = emit, stop_after
        self._metrics = work / "metrics.jsonl"
        keep = Retention(args.keep_checkpoints, args.keep_every_steps, args.keep_best)
        self.checkpoints = Checkpoints(
            work / "checkpoints", keep=keep, identity_check=identity_check, processes=processes
        )
        self._saves = 0
        self._begun = 0  # the train step of the newest checkpoint, published or under way
        self._moves: tuple[Mapping[str, Any], ...] = ()
        self._room_unknown = False  # until it is counted after each checkpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is under way is published, whatever ended the training; a failure is raised or, beside another, said."""
        self.checkpoints.wait()
        try:
            self._report()
        except (RunspecError, OSError) as failure:
            if error is None:
                raise
            self._emit(Note(f"the last checkpoint was not saved: {failure}"))

    def restore(self, fresh: Any) -> Origin:
        """The newest good checkpoint, or the beginning. Raises InputInvalid T120, T122, T123; RunFailed T143.

        On other devices (declared by ``on_other_devices: reshard``) a train step keeps its sequences, and takes them in
        as many micro-batches as that needs.
        """
        found = self.checkpoints.restore(fresh, self._fell_back, lambda notes: mismatch(self._metrics, notes))
        self._begun = found.train_step if found else 0
        every = self._args.save_every_steps
        if self._begun < self._last:
            saves = self._last // every - self._begun // every + (self._last % every > 0)
            self.checkpoints.require_room(fresh, saves=saves, last=self._last)
        if found is None:
            return Origin(None, 0, None, self._args, ())
        self._emit(Restored(found.train_step))
        args = self._moved(found)
        return Origin(found.state, found.train_step, found.notes, args, self._moves)

    def _moved(self, found: RestoredCheckpoint) -> TrainArgs:
        """The arguments with which these devices take the same batch; a change of devices is said and remembered."""
        now, args = self._identity_check.topology, self._args
        if self._identity_check.reshard:
            args = replace(args, global_batch_size=found.manifest.sequences_per_step)
        parts = batch_of(args, now.mesh.get("fsdp", 1)).micro_batches
        self._moves = tuple(found.notes.get("moves", ()))
        if found.manifest.topology != now.as_json():
            was = Topology.of_json(found.manifest.topology)
            move = {"train_step": found.train_step, "was": str(was), "now": str(now), "micro_batches": parts}
            self._moves = (*self._moves, move)
            self._emit(Resharded(found.train_step, str(was), str(now), parts))
        return args

    def _fell_back(self, train_step: int, reason: str) -> None:
        self._emit(CheckpointUnusable(train_step, reason))

    def due(self, train_step: int) -> bool:
        """Is a checkpoint made after this train step?"""
        return train_step % self._args.save_every_steps == 0 or train_step == self._last

    def save(self, state: Any, train_step: int, notes: Mapping[str, Any], stopping: Stopping) -> None:
        """Begin a checkpoint, unless this step has one; goes on while it is written, but for the smoke run's last."""
        if self._begun == train_step:
            return
        said = {**notes, "moves": list(self._moves)} if self._moves else notes
        self.checkpoints.begin(state, train_step, said)
        self._begun = train_step
        self._saves += 1
        if self._saves == self._stop_after:
            self.finish()
            self._emit(ReadyForKill(train_step))
            while not stopping():  # the smoke run kills us here, for real
                time.sleep(WAIT_SECONDS)

    def step(self) -> None:
        """At each train step: says what was published since. Raises RunFailed T141, T143, OSError."""
        self._report()
        if self._room_unknown and self.checkpoints.idle and self._begun < self._last:
            self._room_unknown = False
            self.checkpoints.require_room_for_next()

    def finish(self) -> None:
        """Until every checkpoint is published, or has failed."""
        self.checkpoints.wait()
        self._report()

    def best(self, like: Any) -> RestoredCheckpoint | None:
        """The good checkpoint of lowest eval loss, or None where none has one."""
        return self.checkpoints.restore_best(like)

    def _report(self) -> None:
        """Events of what was published; raises what went wrong."""
        for one in self.checkpoints.published():
            self._room_unknown = True
            self._emit(CheckpointSaved(one.train_step, round(one.seconds, 3), round(one.stalled_seconds, 3)))
        self.checkpoints.check()
