"""How long the rest of a run takes on a machine, from what was measured there, and from nothing else.

In: the run-spec, the story, the machine. Out: a :class:`Forecast`. Measured are the sessions of this run on the platform, and the smoke run here
where this machine has the same kind of device. A machine whose speed nobody has measured has no forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.artifacts.journal import journal_path, read_journal
from engine.artifacts.store import Store
from engine.errors import RunspecError
from engine.kaggle.driver.accelerators import Accelerator
from engine.kaggle.driver.story import PushStory
from engine.preflight.targets import target_named
from engine.runspec.model import Spec

UNKNOWN = "its time is not foretold: nothing of this run was measured on such a machine yet"


@dataclass(frozen=True, slots=True)
class Forecast:
    """``source`` says what it was measured on, or why there is none."""

    seconds: float | None
    source: str


def forecast(spec: Spec, story: PushStory, machine: Accelerator) -> Forecast:
    """The train steps that are left, at the measured pace."""
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
        return Forecast(pace * left, f"{pace:.2f} s a train step in the sessions before")
    pace_here = _smoke_pace(spec, machine)
    if pace_here is None:
        return Forecast(None, UNKNOWN)
    return Forecast(pace_here * left, f"{pace_here:.2f} s a train step in the smoke run here")


def _smoke_pace(spec: Spec, machine: Accelerator) -> float | None:
    """Seconds of a train step in this project's smoke run, where its devices were of the machine's kind."""
    try:
        rows = read_journal(journal_path(spec.root / ".runspec", spec.run_version))
        smoke = next((row for row in reversed(rows) if row.get("uses") == "smoke_run" and "type" in row), None)
        artifact = Store(spec.root).find(str(smoke["type"]), str(smoke["fingerprint"])) if smoke else None
    except RunspecError:  # what is wrong with this machine's runs is told by the commands that are about them
        return None
    facts = artifact.facts if artifact else {}
    seconds, platform = facts.get("step_seconds"), target_named(machine.target).machine.platform
    return float(seconds) if isinstance(seconds, int | float) and facts.get("platform") == platform else None
