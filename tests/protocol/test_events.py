"""Laws of the events: the engine reads what the trainer writes, and each event has a line for people."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from engine.protocol.codec import FieldError
from engine.protocol.events.base import Event, Failed, Finished, OtherEvent
from engine.protocol.events.table import EVENTS, event_of, parse_event, to_line
from tests.fixtures.event_samples import SAMPLES

LINES = """\
on cpu, 984,704 parameters, 4,436 rows, 90 % of each batch are real tokens
train step 20/400 · loss 0.9010 · 14,513 tokens/s · 53s left
compiled in 3.2s
evaluated after train step 400: loss 0.0026
train step 7 was skipped: non-finite loss or gradient (1 in a row; 3 are tolerated)
checkpoint at train step 100
resumed from the checkpoint of train step 100
resumed on 4 cpu devices what was saved on 8 cpu devices: the same batches, in 2 micro-batches; \
no longer bit for bit the uninterrupted training run
the checkpoint of train step 100 is unusable: checkpoint.json is missing or damaged
checkpoint 1 is safe; killing the trainer on purpose
a checkpoint every 240 train steps: a step takes 0.2s, a save 1.2s, and save_every_steps is not declared
stopped after train step 37; state saved
on cpu
generated 50/100 · 12,933 tokens/s
stopped after 50 of 100 answers; they are kept
tokenized 120,000/1,000,000 rows
the tokenized rows in the cache are unusable (tokens.bin has other bytes); they are made again
tensorboard: tensorboard --logdir .runspec/reports
wandb gets no more rows, the training run continues: the server does not answer
traced train steps 20 to 22: .runspec/reports/m36_v1/train/profile
google/gemma-2b at flax is commit 0123456789ab: 8 files, 15.3 MB of 5.01 GB to fetch
fetched 15.3 MB of 5.01 GB · flax_model.msgpack · 30.0 MB/s · 2m 47s left
the hub answers 503; trying again in 2.0s
the hub cannot be reached: using the earlier download of google/gemma-2b at flax, commit 0123456789ab
tokenizer.json in the cache is damaged; it is removed and fetched again
weights that are not read: vision_tower.*
"""


def test_every_event_has_a_sample() -> None:
    """There is one sample of each event, in the order of the table."""
    assert [type(event) for event in SAMPLES] == list(EVENTS.values())


def test_the_lines_for_people_are_golden() -> None:
    """One line per event; the runner prints how a job ended."""
    lines = [event.describe() for event in SAMPLES if not isinstance(event, Finished | Failed)]
    assert lines == LINES.splitlines()
    assert [event.describe() for event in SAMPLES if isinstance(event, Finished | Failed)] == [None, None]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.name)
def test_a_line_is_read_as_it_was_written(event: Event) -> None:
    """JSON and back gives an equal value, for every event."""
    assert parse_event(json.loads(to_line(event))) == event
    assert event_of(event.as_json()) == event


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.name)
def test_an_unknown_or_missing_field_is_named(event: Event) -> None:
    """A renamed field on one side of the protocol is an error that names it, never a silent gap."""
    values = event.as_json()
    with pytest.raises(FieldError, match=f'event "{event.name}": unknown field "grams"'):
        parse_event({**values, "grams": 3})
    first = fields(event)[0].name
    with pytest.raises(FieldError, match=f'event "{event.name}": missing field "{first}"'):
        parse_event({name: value for name, value in values.items() if name != first})


def test_an_unknown_event_is_refused_from_the_trainer_and_allowed_from_plug_ins() -> None:
    """The trainer's events are strict; a step of another package may send any event."""
    with pytest.raises(FieldError, match='unknown event "melted"'):
        parse_event({"event": "melted", "grams": 3})
    assert event_of({"event": "melted", "grams": 3}) == OtherEvent("melted", {"grams": 3})


def test_bars_name_existing_fields() -> None:
    """(done, total) of each event that moves a bar are numbers."""
    with_bar = [event for event in SAMPLES if event.bar is not None]
    assert [event.name for event in with_bar] == ["train_step", "generated", "tokenizing", "download"]
    assert all(0 <= done <= total for done, total in (event.progress() for event in with_bar))


def test_no_event_may_hold_a_nan() -> None:
    """A NaN is an error where it is written, not where it is read."""
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line(Finished({"loss": float("nan")}))
