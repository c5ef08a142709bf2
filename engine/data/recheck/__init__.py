"""The second derivation: every answer computed again from the text of the question alone.

In: a trace, or a question with its task type. Out: None, or a sentence that names
the disagreement. Nothing here uses how a builder drew its numbers: questions are read with patterns, and
answered by counting, searching, stepping or exact fractions where the builder used a formula. Every
equation and comparison written in the steps is evaluated too.
"""

from __future__ import annotations

from engine.data.model import Trace
from engine.data.recheck.evaluate import false_statement
from engine.data.recheck.tasks import TASKS


def recheck_trace(trace: Trace) -> str | None:
    """None where the answer and all statements of the steps are right; else what is wrong."""
    for step in trace.steps:
        wrong = false_statement(step.content)
        if wrong is not None:
            return f"step {step.i} states {wrong}"
    task_type = str(trace.meta.get("task_type"))
    answer = derive(task_type, trace.prompt)
    if answer is None:
        return f"no second derivation for a question of type {task_type}"
    return None if answer == trace.final_answer else f"the answer is {answer}, not {trace.final_answer}"


def derive(task_type: str, prompt: str) -> str | None:
    """The answer to the question by the second derivation; None for an unknown type or wording."""
    task = TASKS.get(task_type)
    return None if task is None else task(prompt)
