"""The cells that run steps: which steps of a run-spec belong to which cell.

In: the steps as ``plan --json`` lists them. Out: for each cell the step to stop after, or None. A step is run by the cell of its kind,
or by the cell before it in the run-spec's order where that one is later; kinds of other packages belong to the last cell.

    >>> last_steps([("data", "build_dataset"), ("a", "train_sft"), ("b", "train_sft"), ("answers", "generate")])["train"]
    'b'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# cell -> the kind of step that it runs, in the runbook's order
STAGES: Mapping[str, str] = {
    "dataset": "build_dataset",
    "smoke": "smoke_run",
    "train": "train_sft",
    "predict": "generate",
    "score": "score",
}
_ORDER = tuple(STAGES)


def last_steps(steps: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """``steps``: (id, kind) in the run-spec's order. Cells without a step of their own have None."""
    cells = {kind: number for number, kind in enumerate(STAGES.values())}
    found: dict[str, str | None] = dict.fromkeys(_ORDER)
    reached = 0
    for step_id, kind in steps:
        reached = max(reached, cells.get(kind, len(_ORDER)))
        if reached < len(_ORDER):
            found[_ORDER[reached]] = step_id
    return found
