"""The body of the train job: load, pack, restore, loop, save, export. The one place where training meets the disk.

In: the job, a mapping with

    model {init, id, revision, path, config, tokenizer}, rows (path of rows.jsonl), render, work, out, cache, device,
    questions: null or what the trained model will be asked {prompts, max_new_tokens}, to be refused at once if it does
    not fit, args (see engine.trainer.config.train_args), stop_at: null or the train step to end at (the schedule stays that of all),
    stop_after_saves: null or after how many checkpoints to say ready_to_die and wait for the kill,
    reports, run_name: null or where other tools keep what they are sent, and what they call the run.

Out: ``out/model/`` in Hugging Face's layout, ``out/metrics.jsonl``, ``out/train_report.json``; in ``work``: checkpoints
and metrics that survive a kill; in ``cache`` (or ``work``, where it is null): the tokenised rows. Events: those of
engine.trainer.hub, tokenizing (every second, where it takes so long), tokens_damaged, started,
compiled, train_step (every ``log_every_steps``, the first and the last), skipped (the first in a row, and every
``log_every_steps``), eval, those of engine.trainer.checkpoint.saver and of
engine.trainer.tracking.tracker (reporting, writer_failed, profiled), stopped, finished.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from engine.canonical import pretty_json, write_atomic
from engine.trainer import device
from engine.trainer.checkpoint.manifest import IdentityCheck
from engine.trainer.checkpoint.saver import Saver
from engine.trainer.config.train_args import TrainArgs
from engine.trainer.distributed.gather import check_same, gathered, metrics_folder
from engine.trainer.distributed.placement import Placement
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup
from engine.trainer.distributed.topology import Topology
from engine.trainer.generation.prompts import check_questions
from engine.trainer.guard import Skips
from engine.trainer.input_pipeline.batches import DataOrder, batch_at, real_tokens
from engine.trainer.input_pipeline.dataset import Data, load_data
from engine.trainer.input_pipeline.packing import Packed
from engine.trainer.input_pipeline.prefetch import Prefetch
from engine.trainer.input_pipeline.token_store import Stopped
from engine.trainer.inputs import Model, identity, load_model
from engine.trainer.loop import Done, train
from engine.trainer.lora.adapters import LoraArgs, attach
from engine.trainer.metrics import MetricsFile
from engine.trainer.models import param_count
from engine.trainer.ops.matmul import resolve_matmul_dtype
from engine.trainer.process import Emit, Stopping
from engine.trainer.remat_policy import compile_within_limit, compute_policy, effective, limit_bytes
from engine.trainer.report import export
from engine.trainer.tracking.tracker import Tracker, check_tracking
from engine.trainer.train_step import State, init_state, make_eval_loss, merge, trained


def run_train(
    job: Mapping[str, Any], emit: Emit, stopping: Stopping, processes: ProcessGroup = SINGLE_PROCESS
) -> dict[str, Any]:
    """Do the job; returns the report, or {"stopped": True} where ``stopping`` said so.

    Of several processes (``processes``) all do process 0's job; that one alone writes, and has the report.
    """
    job = processes.agree("job", lambda: dict(job))
    args, machine = TrainArgs.of(job["args"]), device.describe(job["device"])
    machine["matmul_dtype"] = resolve_matmul_dtype(args.matmul_dtype, args.dtype, jax.local_devices()[0]) or args.dtype
    check_tracking(args)
    placement = Placement(mesh=args.mesh)
    model = load_model(job["model"], args.dtype, args.seed, emit, stopping, placement=placement)
    if processes.is_writer and job.get("questions"):
        check_questions(job["questions"], model.tokenizer, model.config.max_position_embeddings)
    try:
        data = _load_data(job, args, model, emit, stopping)
    except Stopped:
        processes.failed("it was asked to stop before the first train step")
        emit({"event": "stopped", "train_step": 0})
        return {"stopped": True, "train_step": 0}
    emit(_started(model, data, args, machine, placement))
    tracker = Tracker(job, args, model, data, machine, emit)
    with metrics_folder(Path(job["work"]), processes) as folder:
        training = Training(
            job,
            args,
            model,
            data,
            placement,
            metrics=folder,
            emit=emit,
            stopping=stopping,
            tracker=tracker,
            processes=processes,
        )
        with training.saver, closing(training.metrics), closing(tracker):
            if not training.run():
                emit({"event": "stopped", "train_step": training.train_step})
                return {"stopped": True, "train_step": training.train_step}
            report = training.export(machine)
    emit({"event": "finished", "report": report})
    return report


def _load_data(job: Mapping[str, Any], args: TrainArgs, model: Model, emit: Emit, stopping: Stopping) -> Data:
    cache = Path(job.get("cache") or Path(job["work"]) / "cache")
    rows = Path(job["rows"])
    return load_data(rows, model.tokenizer, args, cache=cache, render=job["render"], emit=emit, stopping=stopping)


def _started(
    model: Model, data: Data, args: TrainArgs, machine: Mapping[str, Any], placement: Placement
) -> dict[str, Any]:
    batch = args.batch(placement.size.fsdp)
    return {
        "event": "started",
        "devices": machine["devices"],
        "platform": machine["platform"],
        "jax": jax.__version__,
        "params": param_count(model.config),
        "n_rows": data.n_rows,
        "mesh": placement.size._asdict(),
        "batch": {**batch._asdict(), "empty": batch.empty},
        "batches_per_epoch": round(data.packed.n_sequences / batch.sequences, 2),
        "real_token_share": round(data.packed.real_token_share, 4),
        "longest_row_tokens": data.longest,
        "n_boundary_merges": data.n_boundary_merges,
        "chat_template_sha256": model.tokenizer.chat_sha256,
        "num_train_steps": args.num_train_steps,
    }


class Training:
    """One training from its restored (or first) step to its last."""

    def __init__(
        self,
        job: Mapping[str, Any],
        args: TrainArgs,
        model: Model,
        data: Data,
        placement: Placement,
        *,
        metrics: Path,
        emit: Emit,
        stopping: Stopping,
        tracker: Tracker,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.job, self.model, self.data = job, model, data
        self._placement, self._emit, self._stopping, self._processes = placement, emit, stopping, processes
        self._tracker = tracker
        self._asked = (0, False)  # whether to stop after this train step, as all processes were told
        self.last = min(args.num_train_steps, job.get("stop_at") or args.num_train_steps)
        self._restore(Path(job["work"]), metrics, args)
        self._order = DataOrder(data.packed.n_sequences, self._shape.sequences, args.seed)
        self._eval_loss = make_eval_loss(self.graphdef, compute_policy(args, placement))
        self._skips = Skips(args.max_skipped_steps)
        self._skips.recall(self.metrics.rows)

    def _restore(self, work: Path, metrics: Path, args: TrainArgs) -> None:
        """Begin at the newest good checkpoint, or at 0; on other devices the arguments may be others from here on."""
        self.topology = Topology.of(self._placement)
        ours = identity(args, self.model, self.data)
        check_same(ours, self._processes)
        identity_check = IdentityCheck(
            ours,
            self.topology,
            args.batch(self._placement.size.fsdp).sequences,
            reshard=args.on_other_devices == "reshard",
        )
        stop_after = self.job.get("stop_after_saves")
        self.saver = Saver(
            work,
            args,
            identity_check,
            last=self.last,
            emit=self._emit,
            stop_after=stop_after,
            processes=self._processes,
        )
        self.graphdef, fresh = init_state(with_method(self.model.module, args, jax.local_devices()[0]), args)
        fresh = self._placement.state(fresh, self.model.config)
        origin = self.saver.restore(trained(fresh))
        self.state: State = fresh | (origin.state or {})
        self.train_step, self.args, self._moves = origin.train_step, origin.args, origin.moves
        self._shape = self.args.batch(self._placement.size.fsdp)
        self.metrics = MetricsFile(metrics / "metrics.jsonl", origin.notes if self._processes.is_writer else None)
        if self.metrics.recovered:
            self._emit({"event": "note", "text": "metrics.jsonl was damaged: its rows are those of its copy"})

    def run(self) -> bool:
        """True at the end; False where it was asked to stop (a checkpoint of the last step is then saved)."""
        if self.train_step >= self.last:
            return True
        started = time.perf_counter()
        # Agreed on: another limit might be another policy, and another program.
        limit = self._processes.agree("limit", lambda: limit_bytes(jax.local_devices()[0]))
        batch = self._batch(self.train_step + 1)
        step, policy = compile_within_limit(self.graphdef, self.args, self.state, batch, self._placement, limit=limit)
        seconds = round(time.perf_counter() - started, 2)
        self._emit({"event": "compiled", "seconds": seconds, **effective(self.args, policy, jax.local_devices()[0])})
        began, first = time.perf_counter(), self.train_step + 1
        state, self.state = self.state, {}
        self._tracker.begins(self.metrics.rows, first)
        with Prefetch(self._batch, first=first, last=self.last) as batches:
            steps = train(step, state, batches, first=first, last=self.last, pause_after=self._pauses)
            del state  # donated: nobody else may hold it
            for done in steps:
                self._take(done, began, first)
                if done.state is not None and self._stops(done.train_step) and done.train_step < self.last:
                    self._save()
                    self.saver.finish()
                    return False
        self.saver.finish()
        return True

    def _batch(self, train_step: int) -> dict[str, Any]:
        _, micro_batches, rows = self._shape

        def make(columns: slice) -> dict[str, Any]:
            return batch_at(self.data.packed, self._order, train_step, micro_batches, rows=rows, columns=columns)

        return self._placement.dealt(rows, make)

    def _stops(self, train_step: int) -> bool:
        """Does the training end after this train step, since somebody asked? All processes get the same answer."""
        if self._processes.count == 1:
            return self._stopping()
        if self._asked[0] != train_step:
            self._asked = (train_step, self._processes.agree("stop", self._stopping))
        return self._asked[1]

    def _count_skip(self, train_step: int, was_skipped: bool) -> None:
        """One that was skipped is said, and its batch written down. Raises RunFailed T131 for one too many in a row."""
        if not was_skipped:
            self._skips.take(train_step, False)
            return
        rows = self.data.packed.row_ids(self._order.indices(train_step))
        path = Path(self.job["work"]) / "skipped_batch.json"
        if self._processes.is_writer:
            write_atomic(path, pretty_json({"train_step": train_step, "rows": rows}))
        self._skips.take(train_step, True, rows=rows, listed_in=path)
        if self._skips.in_a_row == 1 or train_step % self.args.log_every_steps == 0:
            streak = {"in_a_row": self._skips.in_a_row, "most": self._skips.most}
            self._emit({"event": "skipped", "train_step": train_step, **streak})

    def _pauses(self, train_step: int) -> bool:
        stops = self._stops(train_step)  # asked at every train step, so that all processes ask alike
        due = self.saver.due(train_step) or self._evals_after(train_step) or stops
        return due or self._tracker.pauses_after(train_step)

    def _evals_after(self, train_step: int) -> bool:
        if self.data.withheld is None:
            return False
        every = self.args.eval_every_steps
        return train_step == self.last or bool(every and train_step % every == 0)

    def _take(self, done: Done, began: float, first: int) -> None:
        """Write one row, and do what is due after it."""
        row = self._tracker.arrived(done.metrics)
        self._count_skip(done.train_step, bool(row.get("skipped")))
        if done.state is not None:
            self.state, self.train_step = done.state, done.train_step
            if self.data.withheld is not None and self._evals_after(done.train_step):
                row = {**row, "eval_loss": self._evaluate(self.data.withheld)}
                self._emit({"event": "eval", "train_step": done.train_step, "eval_loss": row["eval_loss"]})
        self.metrics.append(row)
        if done.train_step in (first, self.last) or done.train_step % self.args.log_every_steps == 0:
            pace = (time.perf_counter() - began) / (done.train_step - first + 1)
            self._emit(
                {
                    "event": "train_step",
                    "num_train_steps": self.last,
                    **row,
                    "seconds_left": round(pace * (self.last - done.train_step), 1),
                }
            )
        self.saver.step()
        if done.state is not None and self.saver.due(done.train_step):
            self._save()
        self._tracker.written(row)

    def _save(self) -> None:
        """A checkpoint of the present step, unless it has one."""
        notes = {**self.metrics.sync(), "eval_loss": self.metrics.rows[-1].get("eval_loss")}
        self.saver.save(trained(self.state), self.train_step, notes, self._stopping)

    def _evaluate(self, withheld: Packed) -> float:
        """Mean loss over the withheld rows, token by token."""
        total = tokens = 0.0
        size = self._shape.rows
        for start in range(0, withheld.n_sequences, size):
            resolve_matmul_dtype = withheld.take(range(start, min(start + size, withheld.n_sequences)))
            part = {name: _filled(array, size) for name, array in resolve_matmul_dtype.items()}
            loss, count = self._eval_loss(self.state, self._placement.batch(part, axis=0))
            total, tokens = total + float(loss), tokens + float(count)
        return total / tokens

    def _base(self) -> dict[str, Any]:
        """What adapters are over: enough to find the same weights again."""
        job = self.job["model"]
        return {
            "id": job["id"],
            "revision": self.model.commit,
            "init": job["init"],
            "weights": self.model.origin,
            "dtype": self.args.dtype,
            "seed": self.args.seed,
        }

    def export(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Write the results; returns the report."""
        seen = real_tokens(self.data.packed, self._order, self.train_step)
        best = self.saver.best(trained(self.state)) if self.args.export == "best" else None
        state = self.state | (best.state if best else {})
        wanted = {"params": state["params"]} | ({"frozen": state["frozen"]} if self.args.lora_merge else {})
        weights = gathered(wanted, self._placement.whole, self._processes)
        if weights is None:
            return {"process": self._processes.process_id}
        state |= weights
        facts = {
            **machine,
            "render": self.job["render"],
            "tokens_seen": seen,
            "base": self._base(),
            "exported_train_step": best.train_step if best else self.train_step,
            "topology": self.topology.as_json(),
            "moves": list(self._moves),
            "measured": self._tracker.report(self.metrics.rows),
            "sequences_per_train_step": self._shape.sequences,
        }
        return export(
            Path(self.job["out"]),
            merge(self.graphdef, state["params"], state.get("frozen")),
            self.metrics,
            self.train_step,
            args=self.args,
            model=self.model,
            data=self.data,
            facts=facts,
        )


def with_method(module: Any, args: TrainArgs, where: Any) -> Any:
    """The module itself, or with fresh adapters; its products in the dtype that suits the device ``where``."""
    module.matmul_dtype = resolve_matmul_dtype(args.matmul_dtype, args.dtype, where)
    if args.method == "full":
        return module
    lora = LoraArgs(args.lora_rank, args.lora_alpha, args.lora_rslora, args.lora_dropout, args.lora_targets)
    return attach(module, lora, seed=args.seed)


def _filled(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The last batch filled up with empty sequences, so that one compilation serves all."""
    return np.pad(array, ((0, size - array.shape[0]), (0, 0)))
