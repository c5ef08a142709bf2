"""Events and facts in a person's words: shared by the live display, the plain lines and the log.

What a person reads of an event of the trainer stands beside its fields, in :mod:`engine.protocol.events`.

    >>> describe({"event": "restored", "train_step": 25})
    'resumed from the checkpoint of train step 25'
    >>> describe({"event": "melted", "grams": 3})      # of a step from another package: shown as it is
    'melted · grams 3'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.protocol.events import event_of
from engine.protocol.events.base import Event
from engine.protocol.figures import number

# Which facts of a finished step are worth a person's line, in this order.
SHOWN_FACTS = (
    "n_rows",
    "n_duplicates",
    "n_overlap",
    "n_dropped",
    "params",
    "final_loss",
    "final_eval_loss",
    "n_items",
    "n_scored",
    "primary_score",
    "tokens_per_second",
    "mfu",
    "killed_at",
    "resumed_from",
)


def describe(event: Event | Mapping[str, Any]) -> str | None:
    """One line about a live event, or None where the runner speaks for it."""
    return event_of(event).describe()


def shown_facts(facts: Mapping[str, Any]) -> str:
    """`` · n_rows 550 · final_loss 0.1234``: the facts worth a line, or nothing."""
    shown = [name for name in SHOWN_FACTS if isinstance(facts.get(name), int | float)]
    return "".join(f" · {name} {number(facts[name])}" for name in shown)
