"""Observes a training run without changing it: throughput, reports to other tools, the profiler.

In: the job, the model and data, rows. Out: rows with more columns, a part of the report, events.

    tracker = Tracker(job, model, data, machine, emit)    # raises InputInvalid T160, T161
    tracker.begins(rows_so_far, first=1)      # before the first train step of this process
    row = tracker.arrived(row)                # after a train step: the row with what was measured
    tracker.written(row)                      # the row is in metrics.jsonl; the next train step follows
    tracker.close()

``job.reports`` is the folder for the files of other tools, ``job.run_name`` their name of the run. Below it each
training run has a folder of its own, named by its identity: a resumed run continues there, another one starts afresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from engine.canonical import digest_json
from engine.protocol.jobs import TrainJob
from engine.protocol.train_args import TrainArgs, names_affecting
from engine.trainer.input_pipeline.dataset import Data
from engine.trainer.inputs import Model, identity
from engine.trainer.metrics import MetricsRow
from engine.trainer.process import Emit
from engine.trainer.tracking.loggers import RunFacts, check_installed
from engine.trainer.tracking.loggers.reports import Reports
from engine.trainer.tracking.profiler import ProfileWindow, Tracer
from engine.trainer.tracking.throughput import ThroughputMetrics

NAME_CHARS = 12


def check_tracking(args: TrainArgs) -> None:
    """Raises InputInvalid T160 for a tool that is not installed, T161 for a window outside the run."""
    check_installed(args.report_to)
    ProfileWindow.of(args.profile, last=args.num_train_steps)


class Tracker:
    """One in each process that trains."""

    def __init__(self, job: TrainJob, model: Model, data: Data, machine: Mapping[str, Any], emit: Emit) -> None:
        args = job.args
        self._throughput = ThroughputMetrics(model.config, args, data.packed.plan.lengths, machine)
        training = digest_json(identity(args, model, data))[:NAME_CHARS]
        folder = Path(job.reports or Path(job.work) / "reports") / training
        tracked = names_affecting("tracking")  # they say nothing of what is trained
        config = {name: value for name, value in asdict(args).items() if name not in tracked}
        config |= {"model": job.model.id, "n_rows": data.n_rows, "render": job.render}

        def facts_of(name: str) -> RunFacts:
            return RunFacts(job.run_name or "training", training, config, folder / name)

        # Of several processes only the first reports.
        self._reports = Reports(args.report_to if jax.process_index() == 0 else (), facts_of, emit)
        window = ProfileWindow.of(args.profile, last=args.num_train_steps)
        self._tracer = Tracer(window, folder / "profile", emit)
        self._done = 0

    def begins(self, rows: Sequence[MetricsRow], first: int) -> None:
        """Called before train step ``first``; ``rows`` are those of earlier train steps."""
        self._done = first - 1
        self._reports.start(rows)
        self._tracer.before(first)

    def pauses_after(self, train_step: int) -> bool:
        """Whether the device must be idle after this train step."""
        return self._tracer.pauses_after(train_step)

    def arrived(self, row: MetricsRow) -> dict[str, Any]:
        """The row of a finished train step, with what was measured."""
        self._done = row["train_step"]
        measured = self._throughput.measured(row)
        if self._tracer.covers(self._done):
            measured["profiled"] = True
        self._tracer.after(self._done)
        return measured

    def written(self, row: MetricsRow) -> None:
        """The row is in metrics.jsonl; the next train step follows."""
        self._reports.row(row)
        self._tracer.before(row["train_step"] + 1)

    def report(self, rows: Sequence[MetricsRow]) -> dict[str, Any]:
        """The tracker's part of the report."""
        return self._throughput.report(rows)

    def close(self) -> None:
        """Write a trace and reports that are still open."""
        self._tracer.stop(self._done)
        self._reports.close()
