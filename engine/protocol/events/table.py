"""The trainer's events by name, and to JSON and back: one dataclass per event, with the line that a person reads.

In: fields. Out: one JSON object a line, ``{"event": "train_step", "train_step": 10, …}``, and one line of text. The live
display, the plain lines, the log and docs/reference/events.md are all derived from here; nothing else knows a field.

    >>> event = parse_event({"event": "restored", "train_step": 25})
    >>> event, event.describe()
    (Restored(train_step=25), 'resumed from the checkpoint of train step 25')
    >>> to_line(event)
    '{"event": "restored", "train_step": 25}'

An event that is not here, or has an unknown or missing field, is a :class:`engine.protocol.codec.FieldError`. Events of
steps from other packages come as mappings (:func:`event_of`): an unknown one is printed with its name and fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.protocol.codec import FieldError, from_json
from engine.protocol.events.base import Event, Failed, Finished, Note, OtherEvent
from engine.protocol.events.checkpoints import CheckpointSaved, CheckpointUnusable, ReadyForKill, Resharded, Restored
from engine.protocol.events.generation import Generated, GenerationStarted, GenerationStopped
from engine.protocol.events.inputs import (
    Download,
    HubBadFile,
    HubOffline,
    HubResolved,
    HubRetry,
    Tokenizing,
    TokensDamaged,
)
from engine.protocol.events.training import (
    CadenceChosen,
    Compiled,
    Evaluated,
    LoggerFailed,
    Profiled,
    Reporting,
    Skipped,
    TrainStarted,
    TrainStep,
    TrainStopped,
)

# Every event of the trainer, in the order of the documentation.
EVENTS: dict[str, type[Event]] = {
    event.name: event
    for event in (
        TrainStarted, TrainStep, Compiled, Evaluated, Skipped, CheckpointSaved, Restored, Resharded, CheckpointUnusable,
        ReadyForKill, CadenceChosen, TrainStopped, GenerationStarted, Generated, GenerationStopped, Tokenizing, TokensDamaged, Reporting,
        LoggerFailed, Profiled, HubResolved, Download, HubRetry, HubOffline, HubBadFile, Note, Finished, Failed,
    )
}  # fmt: skip
# One of these is the last event of a process that ended by itself.
LAST_EVENTS = (Finished, TrainStopped, GenerationStopped, Failed)


def to_line(event: Event) -> str:
    """One line of JSON, without the line feed. Raises ValueError for a NaN or an infinity, which JSON does not have."""
    return json.dumps(event.as_json(), ensure_ascii=False, allow_nan=False, default=float)


def parse_event(values: Mapping[str, Any]) -> Event:
    """The event of a JSON object. Raises FieldError naming an event or a field that is unknown or missing."""
    name = values.get("event")
    if name not in EVENTS:
        raise FieldError(f'unknown event "{name}"')
    try:
        return from_json(EVENTS[name], {key: value for key, value in values.items() if key != "event"})
    except FieldError as error:
        raise FieldError(f'event "{name}": {error}') from error


def event_of(event: Event | Mapping[str, Any]) -> Event:
    """An event itself, or the event that a mapping names; an unknown one, or one that lacks a field, becomes :class:`OtherEvent`."""
    if isinstance(event, Event):
        return event
    try:
        return parse_event(event)
    except FieldError:
        return OtherEvent(str(event.get("event", "")), {key: value for key, value in event.items() if key != "event"})
