"""A folder in which single steps of somebody's run are done again, and one step in it.

In: the run-spec, a folder that is removed afterwards, the display. Out: what the step's handler reports and the files that it made. The
store's part of a run is missing on purpose: nothing is published, journaled or cached in the project.

    workshop = Workshop(spec, handlers(), folder, stop, console, total=1)
    facts, out = workshop.do("predict", {"checkpoint": artifact})
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.artifacts.store import Artifact, explain_os_error
from engine.extras import require
from engine.pipeline.plan import PlannedStep
from engine.pipeline.runner import RunDisplay
from engine.protocol.jobs import ProbeJob
from engine.runspec.model import Spec
from engine.steps import Handler, StepContext
from engine.trainer_process.host import Host
from engine.trainer_process.jobs import allocator_of
from engine.trainer_process.process import run_trainer


@dataclass(slots=True)
class Workshop:
    """``total``: the steps that were asked for, for the display. ``platform``: the devices that the last of them said it ran on."""

    spec: Spec
    kinds: Mapping[str, Handler]
    folder: Path
    stopping: Callable[[], bool]
    console: RunDisplay
    total: int
    n_done: int = 0
    platform: str = ""

    def handler(self, step_id: str) -> Handler:
        """Who does a step."""
        return self.kinds[self.spec.step(step_id).uses]

    def ask(self, eval_set: Path) -> None:
        """From now on the run-spec's eval set is this file."""
        self.spec = replace(self.spec, eval_set=str(eval_set))

    def do(
        self, step_id: str, inputs: Mapping[str, Artifact], stop_at: int | None = None
    ) -> tuple[Mapping[str, Any], Path]:
        """The step's facts, and the folder with its files. Raises X101, and what the step raises."""
        step, handler = self.spec.step(step_id), self.handler(step_id)
        if handler.needs_extra is not None:
            require(handler.needs_extra, f'to run step "{step_id}" ({step.uses}) again, verify --rerun')
        home = self.folder / f"step-{step_id}"
        self.n_done += 1
        self.total = max(self.total, self.n_done)
        self.console.step_started(PlannedStep(step, handler, "run", "run again", {}, {}), self.n_done, self.total)
        started = time.monotonic()
        try:
            for name in ("out", "work", "cache"):
                (home / name).mkdir(parents=True)
            result = handler.run(self._context(step_id, inputs, home, stop_at))
        except OSError as error:
            raise explain_os_error(error, home) from error
        self.console.step_finished(step_id, time.monotonic() - started, result.facts)
        self.platform = str(result.facts.get("platform", self.platform))
        return result.facts, home / "out"

    def device_kind(self) -> str:
        """Of the accelerator of this machine; a step that generates does not say it."""
        work = self.folder / "probe"
        work.mkdir()
        job = ProbeJob(device="auto", allocator=allocator_of(self.spec))
        return str(run_trainer(job, Host(work, self.spec.root, stopping=self.stopping))["device_kind"])

    def _context(self, step_id: str, inputs: Mapping[str, Artifact], home: Path, stop_at: int | None) -> StepContext:
        return StepContext(
            spec=self.spec,
            step=self.spec.step(step_id),
            inputs=inputs,
            ahead={},
            out=home / "out",
            work=home / "work",
            cache=home / "cache",
            emit=self.console.event,
            note=self.console.note,
            stopping=self.stopping,
            stop_at=stop_at,
        )
