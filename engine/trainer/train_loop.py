"""The train steps of one run, and what is due after each: a row of metrics, an eval, a checkpoint, a stop.

:mod:`engine.trainer.loop` yields the steps; this module writes their results. The loop yields its state only where something
is due: otherwise the state is already donated to the next train step.

    finished = TrainLoop(run, state, tracker).run()      # False: a stop request came, and a checkpoint is saved
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax

from engine.canonical import finite_or_null, pretty_json, write_atomic
from engine.protocol.codec import from_json
from engine.protocol.events.training import Compiled, Evaluated, Skipped, TrainStep
from engine.trainer.evaluate import Evaluator
from engine.trainer.host_memory import keep_freed_memory
from engine.trainer.input_pipeline.batches import batch_at
from engine.trainer.input_pipeline.prefetch import Prefetch
from engine.trainer.inputs import TrainRun
from engine.trainer.loop import Done, train
from engine.trainer.metrics import MetricsRow
from engine.trainer.remat_policy import compile_within_limit, effective, limit_bytes
from engine.trainer.restore import RunState, last_train_step
from engine.trainer.tracking.tracker import Tracker
from engine.trainer.train_step import saved_part


class TrainLoop:
    """From the restored (or first) train step to the last."""

    def __init__(self, run: TrainRun, state: RunState, tracker: Tracker) -> None:
        self._run, self._state, self._tracker = run, state, tracker
        self._last = last_train_step(run)
        self._first, self._started_at = state.train_step + 1, 0.0
        self._stop_answer = (0, False)  # (train step, whether to stop after it), as all processes agreed
        self.here = 0  # train steps of this process that are saved
        self._evaluator = Evaluator(state.graphdef, run.args, run.placement, run.data.withheld, rows=state.shape.rows)

    def run(self) -> bool:
        """True at the end; False after a stop request (a checkpoint of the last train step is then saved)."""
        state = self._state
        if state.train_step >= self._last:
            return True
        step = self._compile()
        self._run.check_export()
        if not self._run.processes.agree("begin", state.guard.may_begin):
            return False
        self._started_at = time.perf_counter()
        arrays, state.state = state.state, {}
        self._tracker.begins(state.metrics.rows, self._first)
        with Prefetch(self._batch, first=self._first, last=self._last) as batches:
            steps = train(step, arrays, batches, first=self._first, last=self._last, pause_after=self._pauses)
            del arrays  # donated: no other reference may exist
            for done in steps:
                self._write(done)
                if done.state is not None and self._stops(done.train_step) and done.train_step < self._last:
                    self._save_last(done.train_step)
                    return False
        state.saver.finish()
        self.here = self._last - self._first + 1
        return True

    def _save_last(self, train_step: int) -> None:
        """The last save before a stop. A session of one train step whose save would surely come too late leaves none."""
        state, first = self._state, self._first
        is_only = train_step == first and state.saver.newest < first
        if is_only and not self._run.processes.agree("first save", self._may_save_first):
            state.train_step = first - 1
            return
        self._save()
        state.saver.finish()
        self.here = train_step - first + 1

    def _may_save_first(self) -> bool:
        return self._run.stopping() or self._state.guard.may_save_first()

    def _compile(self) -> Any:
        """The compiled train step; emits what ``auto`` was resolved to."""
        started, state, allocator = time.perf_counter(), self._state, self._run.job.allocator
        # Agreed among the processes: another limit could mean another remat policy, and so another program.
        limit = self._run.processes.agree("limit", lambda: limit_bytes(jax.local_devices()[0], allocator))
        batch = self._batch(self._first)
        step, policy = compile_within_limit(
            state.graphdef, state.args, state.state, batch, self._run.placement, limit=limit
        )
        if self._run.placement.platform == "cpu":
            keep_freed_memory(step, limit=limit)
        seconds = round(time.perf_counter() - started, 2)
        self._run.emit(
            Compiled(seconds, **effective(state.args, policy, self._run.model.config, jax.local_devices()[0]))
        )
        return step

    def _batch(self, train_step: int) -> dict[str, Any]:
        _, micro_batches, rows = self._state.shape

        def make(columns: slice) -> dict[str, Any]:
            packed, order = self._run.data.packed, self._state.order
            return batch_at(packed, order, train_step, micro_batches, rows=rows, columns=columns)

        return self._run.placement.sharded_batch(rows, make)

    def _stops(self, train_step: int) -> bool:
        """Does the run end after this train step, on request? All processes get the same answer."""
        if self._run.processes.count == 1:
            return self._wants_to_stop(train_step)
        if self._stop_answer[0] != train_step:
            self._stop_answer = (
                train_step,
                self._run.processes.agree("stop", lambda: self._wants_to_stop(train_step)),
            )
        return self._stop_answer[1]

    def _wants_to_stop(self, train_step: int) -> bool:
        """On request, or for the session's limit."""
        state = self._state
        evaluates = self._evaluator.is_due(train_step + 1, self._last)
        return self._run.stopping() or state.guard.is_last(
            evaluates=evaluates, is_saving=not state.saver.checkpoints.idle
        )

    def _pauses(self, train_step: int) -> bool:
        stops = self._stops(train_step)  # called at every train step, so that all processes take part in the agreement
        due = self._state.saver.due(train_step) or self._evaluator.is_due(train_step, self._last) or stops
        return due or self._state.guard.is_unsure or self._tracker.pauses_after(train_step)

    def _write(self, done: Done) -> None:
        """Write one row, and do what is due after it."""
        state = self._state
        row = self._tracker.arrived(done.metrics)
        self._count_skip(done.train_step, bool(row.get("skipped")))
        if done.state is not None:
            state.state, state.train_step = done.state, done.train_step
            if self._evaluator.is_due(done.train_step, self._last):
                began = time.perf_counter()
                row = finite_or_null({**row, "eval_loss": self._evaluator.loss(state.state)})
                state.guard.evaluated(time.perf_counter() - began)
                self._run.emit(Evaluated(done.train_step, row["eval_loss"], row.get("non_finite", {}).get("eval_loss")))
        state.guard.stepped(row["seconds"])
        state.metrics.append(row)
        self._emit(row)
        state.saver.step()
        if done.state is not None and state.saver.due(done.train_step):
            self._save()
        self._tracker.written(row)

    def _emit(self, row: MetricsRow) -> None:
        """The event of this train step, where one is due."""
        train_step = row["train_step"]
        if train_step not in (self._first, self._last) and train_step % self._state.args.log_every_steps:
            return
        pace = (time.perf_counter() - self._started_at) / (train_step - self._first + 1)
        left = round(pace * (self._last - train_step), 1)
        self._run.emit(from_json(TrainStep, {**row, "num_train_steps": self._last, "seconds_left": left}))

    def _count_skip(self, train_step: int, was_skipped: bool) -> None:
        """Count a skipped train step and list its batch's rows in a file. Raises RunFailed T131 for one too many in a row."""
        skips = self._state.skips
        if not was_skipped:
            skips.record(train_step, False)
            return
        rows = self._run.data.packed.row_ids(self._state.order.indices(train_step))
        path = Path(self._run.job.work) / "skipped_batch.json"
        if self._run.processes.is_writer:
            write_atomic(path, pretty_json({"train_step": train_step, "rows": rows}))
        skips.record(train_step, True, rows=rows, listed_in=path)
        if skips.in_a_row == 1 or train_step % self._state.args.log_every_steps == 0:
            self._run.emit(Skipped(train_step, skips.in_a_row, skips.most))

    def _save(self) -> None:
        """Save a checkpoint of the current train step, unless there is one."""
        state = self._state
        eval_loss = state.metrics.rows[-1].get("eval_loss")
        notes = {**state.metrics.sync(), "eval_loss": eval_loss, **state.sessions.notes()}
        state.saver.save(saved_part(state.state), state.train_step, notes, self._run.stopping)
