"""Markdown of the protocol between engine and trainer: every event with its fields and its line, every job with its fields.

In: ``engine.protocol`` and the samples of the tests. Out: the parts ``events``, ``jobs`` and ``effects`` of docs/reference/events.md.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `make reference` runs this as a script

from engine.protocol.events.table import EVENTS
from engine.protocol.jobs import JOBS
from engine.protocol.train_args import effects
from tests.fixtures.event_samples import SAMPLES


def events() -> str:
    """A section an event: when it comes, its fields, what a person reads."""
    lines = {event.name: event.describe() for event in SAMPLES}
    return "\n\n".join(_event(name, cls, lines[name]) for name, cls in EVENTS.items())


def _event(name: str, cls: type, line: str | None) -> str:
    told = f"A person reads: `{line}`" if line else "The runner tells it in its own words."
    return f"### `{name}`\n\n{_doc(cls)}\n\n{_table(cls)}\n\n{told}"


def jobs() -> str:
    """A section a verb: what it does, its fields."""
    return "\n\n".join(f"### `{verb}`\n\n{_doc(cls).splitlines()[0]}\n\n{_table(cls)}" for verb, cls in JOBS.items())


def arguments() -> str:
    """What each argument of a training run affects."""
    rows = [f"| `{name}` | {', '.join(sorted(affected))} |" for name, affected in effects().items()]
    return "\n".join(["| argument of `train_sft` | affects |", "|---|---|", *rows])


def _doc(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _table(cls: type) -> str:
    rows = [f"| `{one.name}` | {_type(one)} | {_default(one)} |" for one in fields(cls)]
    return "\n".join(["| field | type | left out |", "|---|---|---|", *rows])


def _type(one: Field[Any]) -> str:
    return f"`{one.type}`".replace("|", "\\|")


def _default(one: Field[Any]) -> str:
    return "error" if one.default is MISSING else f"`{one.default}`"
