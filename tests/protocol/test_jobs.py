"""Laws of the jobs: a job file has every field that its verb needs and no other."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest

from engine.errors import InputInvalid, render
from engine.protocol.codec import FieldError, from_json, to_json
from engine.protocol.generate_args import GenerateArgs
from engine.protocol.jobs import (
    JOBS,
    Job,
    job_json,
    read_job,
)
from engine.protocol.train_args import TrainArgs, effects, names_affecting
from engine.steps.registry import handlers
from tests.fixtures.job_samples import ARGS, SAMPLES


@pytest.mark.parametrize("job", SAMPLES, ids=lambda job: job.verb)
def test_a_job_file_is_read_as_it_was_written(job: Job) -> None:
    """JSON and back gives an equal value, for every verb."""
    assert read_job(job.verb, json.loads(json.dumps(job_json(job)))) == job


def test_every_verb_has_a_sample() -> None:
    """The laws here cover every verb."""
    assert [type(job) for job in SAMPLES] == list(JOBS.values())


@pytest.mark.parametrize("job", SAMPLES, ids=lambda job: job.verb)
def test_an_unknown_or_missing_field_is_named(job: Job) -> None:
    """T115 names the verb and the field."""
    values = job_json(job)
    with pytest.raises(InputInvalid, match=f'job of "{job.verb}" has an unknown field "gpu"'):
        read_job(job.verb, {**values, "gpu": 1})
    for field in fields(job):
        if field.default is MISSING and field.default_factory is MISSING:
            with pytest.raises(InputInvalid, match=f'missing field "{field.name}"'):
                read_job(job.verb, {name: value for name, value in values.items() if name != field.name})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"args": {"seq_len": "512"}}, 'args.seq_len must be an integer, and is "512"'),
        ({"args": {"seq_len": True}}, "args.seq_len must be an integer, and is true"),
        ({"args": {"optimizer": "sgd"}}, 'args.optimizer must be one of "adamw", "adafactor", and is "sgd"'),
        ({"args": {"mesh": {"fsdp": 4, "pp": 2}}}, 'has an unknown field "args.mesh.pp"; there are: fsdp, tp'),
        ({"args": {"report_to": "wandb"}}, 'args.report_to must be a list, and is "wandb"'),
        ({"args": {"profile": {"start": 3}}}, 'missing field "args.profile.steps"'),
        ({"device": "tpus"}, 'device must be one of "auto", "cpu", "gpu", "tpu", and is "tpus"'),
        ({"model": None}, "model must be a mapping, and is null"),
        ({"rows": 3}, "rows must be text, and is 3"),
    ],
)  # fmt: skip
def test_a_mistyped_field_is_named_with_its_value(change: dict[str, Any], expected: str) -> None:
    """The message has the dotted path of the field, its type and its value."""
    values = job_json(SAMPLES[0])
    values |= {name: {**values[name], **value} if isinstance(value, dict) else value for name, value in change.items()}
    with pytest.raises(InputInvalid) as caught:
        read_job("train", values, file="job.json")
    text = render(*caught.value.diagnostics)
    assert text.startswith('error[T115]: the job of "train"')
    assert expected in text
    assert "--> job.json" in text


def test_an_integer_is_accepted_where_a_number_is_declared() -> None:
    """``learning_rate: 1`` is 1.0; nothing else is converted."""
    assert from_json(GenerateArgs, {"max_new_tokens": 1, "batch_size": 1, "temperature": 1}).temperature == 1.0
    with pytest.raises(FieldError, match=r"batch_size must be an integer, and is 1\.0"):
        from_json(GenerateArgs, {"max_new_tokens": 1, "batch_size": 1.0})


# -- what an argument affects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cls"), [("train_sft", TrainArgs), ("generate", GenerateArgs)])
def test_a_step_of_a_spec_fits_its_job(kind: str, cls: type) -> None:
    """Every argument of the schema is a field and every field an argument; defaults of the schema are valid arguments."""
    properties = handlers()[kind].schema["properties"]
    assert properties.keys() == {field.name for field in fields(cls)}
    defaults = {name: entry.get("default", 8) for name, entry in properties.items()}
    assert to_json(from_json(cls, defaults)).keys() == properties.keys()


def test_every_argument_says_what_it_affects() -> None:
    """Every argument has an effect, and those that affect tracking affect nothing else."""
    assert all(effects().values())
    assert names_affecting("tracking") == ("report_to", "profile")
    assert {affected for affected in effects().values() if "tracking" in affected} == {frozenset({"tracking"})}
    assert not set(names_affecting("files")) & set(names_affecting("state"))


def test_the_schema_says_the_same() -> None:
    """``x-affects`` of the step's schema, which the plan reads, and the field's own metadata agree."""
    properties = handlers()["train_sft"].schema["properties"]
    assert {name: frozenset(entry["x-affects"]) for name, entry in properties.items()} == effects()


def test_the_identity_is_what_affects_the_state() -> None:
    """A checkpoint's identity has exactly these, in a form that survives JSON."""
    assert tuple(ARGS.identity()) == names_affecting("state")
    assert ARGS.identity()["mesh"] == (4, 2)
    assert json.loads(json.dumps(ARGS.identity()))["seq_len"] == 512
