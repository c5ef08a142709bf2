"""Everything that watches a training without touching it: throughput, reports to other tools, the profiler.

What goes in: the job, what is trained, rows. What comes out: rows with more columns, a part of the report, events.

    tracker = Tracker(job, model, data, machine, emit)    # raises InputInvalid T160, T161 before anything is done
    tracker.begins(rows_so_far, first=1)      # before the first train step of this process
    row = tracker.arrived(row)                # a train step is done: what was measured beside it
    tracker.written(row)                      # the row is in metrics.jsonl, and what was due after it is done
    tracker.close()

``job.reports`` is the folder for what other tools keep, ``job.run_name`` what they call the run. Below it each
training has a folder of its own, named by its identity: resumed, it goes on there; another one begins anew.
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
from engine.trainer.process import Emit
from engine.trainer.tracking.loggers import RunFacts, check_installed
from engine.trainer.tracking.loggers.reports import Reports
from engine.trainer.tracking.profiler import ProfileWindow, Tracer
from engine.trainer.tracking.throughput import Row, ThroughputMetrics

NAME_CHARS = 12


def check_tracking(args: TrainArgs) -> None:
    """Raises InputInvalid T160 for a tool that is not installed, T161 for a window outside the training."""
    check_installed(args.report_to)
    ProfileWindow.of(args.profile, last=args.num_train_steps)


class Tracker:
    """One for each process that trains."""

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

        # Of several processes the first one speaks for all.
        self._reports = Reports(args.report_to if jax.process_index() == 0 else (), facts_of, emit)
        window = ProfileWindow.of(args.profile, last=args.num_train_steps)
        self._tracer = Tracer(window, folder / "profile", emit)
        self._done = 0

    def begins(self, rows: Sequence[Row], first: int) -> None:
        """Train step ``first`` comes next; ``rows`` are those of the train steps before."""
        self._done = first - 1
        self._reports.start(rows)
        self._tracer.before(first)

    def pauses_after(self, train_step: int) -> bool:
        """Whether the device has to be idle after this train step."""
        return self._tracer.pauses_after(train_step)

    def arrived(self, row: Row) -> dict[str, Any]:
        """The row of a train step that is done, with what was measured."""
        self._done = row["train_step"]
        found = self._throughput.measured(row)
        if self._tracer.covers(self._done):
            found["profiled"] = True
        self._tracer.after(self._done)
        return found

    def written(self, row: Row) -> None:
        """The row stands in metrics.jsonl; the next train step comes now."""
        self._reports.row(row)
        self._tracer.before(row["train_step"] + 1)

    def report(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The part of the report."""
        return self._throughput.report(rows)

    def close(self) -> None:
        """Write what is still open."""
        self._tracer.stop(self._done)
        self._reports.close()
