"""Events and facts as text, for the live display and the plain lines.

The text of a trainer's event is defined beside its fields, in :mod:`engine.protocol.events`.

    >>> describe({"event": "restored", "train_step": 25})
    'resumed from the checkpoint of train step 25'
    >>> describe({"event": "melted", "grams": 3})      # from a step of another package: name and fields
    'melted · grams 3'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.printable import printable
from engine.protocol.figures import duration, number
from engine.redact import redact

if TYPE_CHECKING:
    from engine.protocol.events.base import Event

INDENT = "      "
# The facts of a finished step that are printed, in this order.
PRINTED_FACTS = (
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


def typed(event: Event | Mapping[str, object]) -> Event:
    """The event itself; a mapping from a step of another package as the event that it names."""
    from engine.protocol.events.table import event_of  # 30 classes, which a run with nothing to do never pays for

    return event_of(event)


def describe(event: Event | Mapping[str, object]) -> str | None:
    """The line for a live event, or None where the runner prints its own."""
    return typed(event).describe()


def facts_text(facts: Mapping[str, object]) -> str:
    """`` · n_rows 550 · final_loss 0.1234``: the facts to print, or an empty text."""
    names = [name for name in PRINTED_FACTS if isinstance(facts.get(name), int | float)]
    return "".join(f" · {name} {number(facts[name])}" for name in names)


def shown(text: str) -> str:
    """One call's text, as both displays print it: no secret, no character that acts, further lines indented as its own."""
    return printable(redact(text)).replace("\n", f"\n{INDENT}")


def run_text(ran: Sequence[str], skipped: Sequence[str], seconds: float) -> str:
    """The last line of a run.

    >>> run_text([], ["dataset", "train"], 0.1), run_text([], ["dataset"], 0.1)
    ('nothing to do: all 2 steps are done already', 'nothing to do: the step is done already')
    >>> run_text(["train"], ["dataset"], 90.0)
    '1 step ran, 1 skipped, in 1m 30s'
    """
    if ran:
        return f"{len(ran)} step{'s' * (len(ran) != 1)} ran, {len(skipped)} skipped, in {duration(seconds)}"
    return f"nothing to do: {'the step is' if len(skipped) == 1 else f'all {len(skipped)} steps are'} done already"
