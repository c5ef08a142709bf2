"""Builders of datasets: a literal dict, each entry a name, a version and a function that is imported on use.

In: a name and a seed. Out: traces, each answer confirmed by a second derivation
(:mod:`engine.data.recheck`); a build in which one disagrees fails.

A new builder is one module here and one entry in :data:`BUILDERS`. Raise the version when the
same seed gives other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.data.manifest import DatasetSource
from engine.data.model import DatasetRow, Trace
from engine.data.text import excerpt, normalise_prompt
from engine.errors import Diagnostic, InputInvalid, RunFailed, did_you_mean


@dataclass(frozen=True, slots=True)
class Builder:
    """``make(seed, num_rows)`` returns the traces; ``max_rows`` equal to ``rows`` means a fixed number."""

    name: str
    version: str
    purpose: str
    rows: int
    max_rows: int
    make: Callable[[int, int], list[Trace]]


def _dev_reasoning(seed: int, num_rows: int) -> list[Trace]:
    from engine.data.builders import dev_reasoning

    return dev_reasoning.make(seed, num_rows)


def _quickstart(seed: int, num_rows: int) -> list[Trace]:
    from engine.data.builders import quickstart

    return quickstart.make(seed, num_rows)


BUILDERS: Mapping[str, Builder] = {
    "dev-reasoning-v2": Builder(
        "dev-reasoning-v2", "2.0", "short reasoning over ten kinds of task", 550, 550, _dev_reasoning
    ),
    "quickstart-reasoning": Builder(
        "quickstart-reasoning",
        "1.0",
        "what a model of 1 M parameters learns in minutes",
        4500,
        8000,
        _quickstart,
    ),
}


def build(name: str, *, seed: int, num_rows: int | None = None) -> list[Trace]:
    """The traces of a builder, each rechecked. Raises InputInvalid; RunFailed where a recheck disagrees."""
    builder = BUILDERS.get(name)
    if builder is None:
        near = did_you_mean(name, BUILDERS)
        hint = f'did you mean "{near}"?' if near else f"builders: {', '.join(BUILDERS)}; a file: dataset: {{path: …}}"
        raise InputInvalid("D304", f'unknown dataset "{name}"', hint=hint)
    count = builder.rows if num_rows is None else num_rows
    if builder.max_rows == builder.rows and count != builder.rows:
        message = f'"{name}" always has {builder.rows} rows, not {count}'
        raise InputInvalid("D305", message, hint="leave num_rows out")
    if not 1 <= count <= builder.max_rows:
        message = f'"{name}" can make 1 to {builder.max_rows} different rows, not {count}'
        raise InputInvalid("D306", message, hint="change num_rows")
    traces = builder.make(seed, count)
    verify(name, traces, count)
    return traces


def verify(name: str, traces: Sequence[Trace], count: int) -> None:
    """Check that every answer is confirmed, every prompt unique and the count right. Raises RunFailed."""
    from engine.data import recheck

    findings: list[Diagnostic] = []
    for trace in traces:
        problem = recheck.recheck_trace(trace)
        if problem:
            message = f'{name}: row "{trace.id}" ({excerpt(trace.prompt)}): {problem}'
            findings.append(Diagnostic("D310", message, hint="this is a fault of the builder: please report it"))
    different = len({normalise_prompt(trace.prompt) for trace in traces})
    if different != count or len(traces) != count:
        message = f"{name}: {len(traces)} rows with {different} different prompts, {count} requested"
        findings.append(Diagnostic("D311", message, hint="this is a fault of the builder: please report it"))
    if findings:
        raise RunFailed.of(findings)


def trace_rows(traces: Iterable[Trace]) -> list[DatasetRow]:
    """Built traces as rows."""
    return [DatasetRow(trace.id or f"trace-{number}", trace) for number, trace in enumerate(traces, start=1)]


def builder_source(name: str, *, seed: int) -> DatasetSource:
    """What the manifest says about a built dataset."""
    builder = BUILDERS[name]
    return DatasetSource(
        dataset=name,
        format="trace",
        purpose=builder.purpose,
        version=builder.version,
        seed=seed,
        builder=name,
    )
