"""Whether a result must be the same here to the last bit: this machine and its libraries beside the recorded ones.

In: the record, a step of it, what the step reports here. Out: each difference as a phrase; none where the same arithmetic is done. Other
versions of the libraries compile other programs. On a CPU the compiler chooses instructions by the processor, and sums are split by the
number of cores; on an accelerator its kind counts. What the record does not say counts as a difference: nobody is accused by a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.artifacts.journal import RunRecord, StepRecord
from engine.evidence.checks.again import UNRECORDED
from engine.pipeline.provenance import machine_facts
from engine.steps import Handler

# Of a training report: which devices, and how the batch was sharded over them.
DEVICES = ("platform", "device_kind", "devices", "topology")


def elsewhere(record: RunRecord, step: StepRecord, handler: Handler, again: Mapping[str, Any]) -> list[str]:
    """How the recorded step was done on another platform than this one."""
    recorded = step.artifact
    found = list(_changed({step.uses: recorded.ingredients["version"]}, {step.uses: handler.version}))
    found += _changed(recorded.ingredients["environment"], handler.environment())
    found += _changed(_devices(record, step), {name: again.get(name) for name in DEVICES})
    here = machine_facts()
    names = ("platform", "processor", "cpu_count") if recorded.facts.get("platform") == "cpu" else ("platform",)
    return found + list(_changed({name: record.environment.get(name) for name in names}, here))


def _devices(record: RunRecord, step: StepRecord) -> dict[str, Any]:
    """What is recorded of the devices. A step that generates says no more than the platform; one run has one kind of each."""
    found = {name: step.artifact.facts[name] for name in DEVICES if name in step.artifact.facts}
    if "device_kind" not in found and found.get("platform") != "cpu":
        trained = record.step_of("train_sft")
        is_same = trained is not None and trained.artifact.facts.get("platform") == found.get("platform")
        found["device_kind"] = trained.artifact.facts.get("device_kind") if trained is not None and is_same else None
    return found


def _changed(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name, value in recorded.items():
        if value is None:
            yield f"its {name} {UNRECORDED}"
        elif value != here.get(name):
            yield f"{name} {value} recorded, {here.get(name)} here"


def in_words(platform: str) -> str:
    """This machine, for a headline."""
    facts = machine_facts()
    return ", ".join(filter(None, [facts["platform"], facts["processor"], platform]))
