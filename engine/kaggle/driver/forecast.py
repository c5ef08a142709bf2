"""How long the rest of a run takes on a machine: from what was measured there; else by the plan's estimate, which calls itself one.

In: the run-spec, the story, the machine, the ``time`` part of the plan. Out: a :class:`Forecast`. Measured are the sessions of this run on the
platform, and the smoke run here where this machine has the same kind of device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import JsonMapping
from engine.kaggle.driver.accelerators import Accelerator
from engine.kaggle.driver.story import PushStory
from engine.preflight.targets import target_named
from engine.runspec.model import Spec

UNKNOWN = "its time is not foretold: nothing of it was measured on such a machine"


@dataclass(frozen=True, slots=True)
class Forecast:
    """``source`` says what it was measured on, or why there is none."""

    seconds: float | None
    source: str
    is_measured: bool = False


def forecast(spec: Spec, story: PushStory, machine: Accelerator, plan_time: JsonMapping) -> Forecast:
    """Of the train steps that are left."""
    total = sum(int(step.args["num_train_steps"]) for step in spec.steps if step.uses == "train_sft")
    reached, measured = 0, []
    for attempt in story.attempts:
        facts = attempt.event("checked") or {}
        progress, seconds = int(facts.get("progress") or 0), facts.get("train_seconds")
        if attempt.facts["target"] == machine.target and seconds and progress > reached:
            measured.append((float(seconds), progress - reached))
        reached = max(reached, progress)
    left = max(total - reached, 0)
    if measured:
        pace = sum(seconds for seconds, _ in measured) / sum(steps for _, steps in measured)
        return Forecast(pace * left, f"{pace:.2f} s a train step in the sessions before", is_measured=True)
    here = _smoke_pace(spec, machine)
    if here is not None:
        return Forecast(here * left, f"{here:.2f} s a train step in the smoke run here", is_measured=True)
    estimate = plan_time.get("seconds")
    if not isinstance(estimate, int | float) or not total:
        return Forecast(None, UNKNOWN)
    return Forecast(estimate * left / total, f"an estimate: {plan_time.get('assumes')}")


def _smoke_pace(spec: Spec, machine: Accelerator) -> float | None:
    """Seconds of a train step in the last smoke run of this project, by its log, where its devices were of the machine's kind.

    The fastest one: the first of a process is slower, and a smoke run is of few. What cannot be read foretells nothing.
    """
    platform, steps, is_smoke = None, list[JsonMapping](), False
    for row in _log_rows(spec.root / ".runspec" / "logs" / f"{spec.run_version}.jsonl"):
        if row.get("event") == "step_started":
            is_smoke = row.get("uses") == "smoke_run"
            steps = [] if is_smoke else steps
        elif is_smoke and row.get("event") == "train_started":
            platform = row.get("platform")
        elif is_smoke and row.get("event") == "train_step" and isinstance(row.get("seconds"), int | float):
            steps.append(row)
    warm = [float(row["seconds"]) for row in steps if not row.get("warm_up")]
    seconds = min(warm or [float(row["seconds"]) for row in steps], default=None)
    return seconds if platform == target_named(machine.target).machine.platform else None


def _log_rows(path: Path) -> Iterator[JsonMapping]:
    """The lines that are JSON objects."""
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row
