"""Resumed = uninterrupted, to the byte; and what a training writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid, RunFailed

Train = Callable[..., list[dict[str, Any]]]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adafactor", "dtype": "bfloat16", "grad_accum_steps": 2, "eval_rows": 4, "eval_every_steps": 5}],
)
def test_resumed_is_uninterrupted(
    make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None], changes: dict[str, Any]
) -> None:
    """Stopped in the middle of an epoch, twice, a training ends with the bytes of one that never stopped."""
    whole, parts = make_job("whole", **changes), make_job("parts", **changes)
    events = train_here(whole)
    assert all(stop % events[0]["batches_per_epoch"] for stop in (3, 8))  # never at the end of an epoch
    for stop_after in (2, 7, None):
        events = train_here(parts, stop_after)
    assert names(events)[:2] == ["started", "restored"]
    assert events[1]["train_step"] == 8  # the step that was under way was finished
    same_training(whole, parts)


def test_a_damaged_checkpoint_costs_its_steps_only(
    make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None]
) -> None:
    """The previous checkpoint is used, an event says so, and the end is the same."""
    whole, harmed = make_job("whole"), make_job("harmed")
    train_here(whole)
    train_here(harmed)
    newest = Path(harmed["work"]) / "checkpoints" / "00000012"
    next(path for path in newest.rglob("*") if path.stat().st_size > 1000 and path.is_file()).write_bytes(b"x")
    events = train_here(harmed)
    assert names(events)[:3] == ["started", "fallback", "restored"]
    assert (events[1]["train_step"], events[2]["train_step"]) == (12, 9)
    same_training(whole, harmed)


def test_a_finished_training_only_exports(make_job: Callable[..., Any], train_here: Train) -> None:
    """Run again after the end, nothing is trained or compiled, and the results are written again."""
    job = make_job()
    train_here(job)
    shutil.rmtree(job["out"])
    assert names(train_here(job)) == ["started", "restored", "finished"]
    assert (Path(job["out"]) / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda job: job["args"].update(learning_rate=1.0), "argument learning_rate was 0.004, now it is 1.0"),
        (lambda job: job["args"].update(seq_len=64), "argument seq_len"),
        (lambda job: job["model"].update(config={**job["model"]["config"], "intermediate_size": 40}), "model interm"),
        (lambda job: Path(job["rows"]).write_text(Path(job["rows"]).read_text().replace("=", ":")), "rows was"),
    ],
)
def test_what_differs_is_refused_by_name(
    make_job: Callable[..., Any], train_here: Train, change: Callable[[Any], None], named: str
) -> None:
    """Resuming with other arguments, another model or other rows is an error that names what differs."""
    job = make_job(num_train_steps=2, save_every_steps=1)
    train_here(job)
    change(job)
    with pytest.raises(InputInvalid, match=named):
        train_here(job)


def test_how_often_to_save_may_change(make_job: Callable[..., Any], train_here: Train) -> None:
    """save_every_steps, keep_checkpoints and log_every_steps change no weight: a resumed training may have others."""
    job = make_job(num_train_steps=2, save_every_steps=1)
    train_here(job)
    job["args"].update(save_every_steps=2, keep_checkpoints=1, log_every_steps=7)
    assert "restored" in names(train_here(job))


def test_what_is_written(make_job: Callable[..., Any], train_here: Train) -> None:
    """One metrics row a train step with its keys; a report that agrees with them; progress as often as declared."""
    job = make_job(eval_rows=4, eval_every_steps=5, log_every_steps=5)
    events = train_here(job)
    rows = [json.loads(line) for line in (Path(job["out"]) / "metrics.jsonl").read_text().splitlines()]
    assert [row["train_step"] for row in rows] == list(range(1, 13))
    assert [row["train_step"] for row in rows if "eval_loss" in row] == [5, 10, 12]
    plain = {"train_step", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "seconds",
             "input_wait_seconds"}  # fmt: skip
    assert all(set(row) - {"eval_loss", "warm_up"} == plain for row in rows)
    assert [row["train_step"] for row in rows if row.get("warm_up")] == [1]
    report = events[-1]["report"]
    assert report == json.loads((Path(job["out"]) / "train_report.json").read_text())
    assert (report["final_loss"], report["final_eval_loss"]) == (rows[-1]["loss"], rows[-1]["eval_loss"])
    assert report["tokens_trained"] == sum(row["tokens"] for row in rows) < report["tokens_seen"]
    assert (report["n_rows"], report["n_eval_rows"]) == (36, 4)
    reported = [event["train_step"] for event in events if event["event"] == "train_step"]
    assert reported == [1, 5, 10, 12]
    saved = [event["train_step"] for event in events if event["event"] == "checkpoint"]
    assert saved == [3, 6, 9, 12]


def test_the_loss_falls(make_job: Callable[..., Any], train_here: Train, metrics_of: Callable[..., Any]) -> None:
    """Training learns: after 60 steps the loss is well below where it was."""
    job = make_job(num_train_steps=60, save_every_steps=60, learning_rate=0.02)
    train_here(job)
    losses = [row["loss"] for row in metrics_of(job)]
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]


def test_stop_at_ends_early_on_the_full_schedule(
    make_job: Callable[..., Any], train_here: Train, metrics_of: Callable[..., Any]
) -> None:
    """The smoke run's steps are the first steps of the full training: same batches, rates and losses."""
    whole, smoke = make_job("whole"), make_job("smoke")
    train_here(whole)
    train_here({**smoke, "stop_at": 2})
    assert metrics_of(smoke) == metrics_of(whole)[:2]


def test_a_loss_that_is_no_number_stops_the_training(make_job: Callable[..., Any], train_here: Train) -> None:
    """An exploding training fails with advice, and no checkpoint is made of it."""
    job = make_job(learning_rate=1e30, max_grad_norm=None, warmup_steps=0, save_every_steps=1)
    with pytest.raises(
        RunFailed,
        match=r"train step [0-9]+: the loss or a gradient is no number, once; 0 are borne; its batch: sequence",
    ) as caught:
        train_here(job)
    assert caught.value.code == "T131"
    assert len(list((Path(job["work"]) / "checkpoints").iterdir())) < 3


def test_a_loss_that_is_no_number_may_be_borne(make_job: Callable[..., Any], train_here: Train) -> None:
    """Declared, the exploded steps are counted and recorded, and the training goes on."""
    job = make_job(learning_rate=1e30, max_grad_norm=None, warmup_steps=0, max_skipped_steps=1000)
    try:
        train_here(job)
    except RunFailed as error:  # where the last step is one of them
        assert "the last train step, 12, was skipped" in str(error)  # noqa: PT017
    rows = [json.loads(line) for line in (Path(job["work"]) / "metrics.jsonl").read_text().splitlines()]
    skipped = [row for row in rows if row.get("skipped")]
    assert len(rows) == 12
    assert skipped
    assert all(row["loss"] is None or row["grad_norm"] is None for row in skipped)
    assert not any(row["loss"] is None for row in rows if not row.get("skipped"))


def test_eval_rows_must_leave_something(make_job: Callable[..., Any], train_here: Train) -> None:
    """Withholding every row is refused."""
    with pytest.raises(InputInvalid, match="leaves nothing of 40 rows"):
        train_here(make_job(eval_rows=40))


def test_unknown_arguments_are_refused(make_job: Callable[..., Any], train_here: Train) -> None:
    """An argument that nobody reads is an error."""
    with pytest.raises(InputInvalid, match="nobody reads"):
        train_here(make_job(lerning_rate=1))
