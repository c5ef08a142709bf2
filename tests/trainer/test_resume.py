"""Resumed = uninterrupted, to the byte; and what a training run writes."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.display.event_text import describe
from engine.errors import InputInvalid, RunFailed
from engine.trainer.checkpoint.checkpoints import Checkpoints
from engine.trainer.evaluate import Evaluator

Train = Callable[..., list[dict[str, Any]]]
BEGIN = Checkpoints.begin


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


@pytest.fixture
def whole(
    first_run: dict[str, Any], make_job: Callable[..., Any], train_here: Train, copy_of: Callable[..., Any]
) -> dict[str, Any]:
    """The standard job, trained once without interruption; nothing is written into it."""
    if "job" not in first_run:
        job = make_job("whole")
        train_here(job)
        first_run["job"] = copy_of(job, first_run["root"])
    return first_run["job"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adafactor", "dtype": "bfloat16", "grad_accum_steps": 2, "eval_rows": 4, "eval_every_steps": 5}],
)
def test_resumed_is_uninterrupted(
    make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None], changes: dict[str, Any]
) -> None:
    """Stopped in the middle of an epoch, twice, a run ends with the bytes of one that never stopped."""
    whole, parts = make_job("whole", **changes), make_job("parts", **changes)
    events = train_here(whole)
    assert all(stop % events[0]["batches_per_epoch"] for stop in (3, 8))  # never at the end of an epoch
    for stop_after in (2, 7, None):
        events = train_here(parts, stop_after)
    assert names(events)[:2] == ["started", "restored"]
    assert events[1]["train_step"] == 8  # the current step was finished
    same_training(whole, parts)


def test_a_damaged_checkpoint_costs_its_steps_only(
    whole: dict[str, Any], train_here: Train, same_training: Callable[..., None], copy_of: Callable[..., Any], tmp_path: Path
) -> None:  # fmt: skip
    """The previous checkpoint is used, an event says so, and the result is the same."""
    harmed = copy_of(whole, tmp_path)
    newest = Path(harmed["work"]) / "checkpoints" / "00000012"
    next(path for path in newest.rglob("*") if path.stat().st_size > 1000 and path.is_file()).write_bytes(b"x")
    events = train_here(harmed)
    assert names(events)[:3] == ["started", "fallback", "restored"]
    assert (events[1]["train_step"], events[2]["train_step"]) == (12, 9)
    same_training(whole, harmed)


def test_a_finished_run_only_exports(
    whole: dict[str, Any], train_here: Train, copy_of: Callable[..., Any], tmp_path: Path
) -> None:
    """Run again after the end, nothing is trained or compiled, and the results are written again."""
    job = copy_of(whole, tmp_path)
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


def test_how_often_to_save_may_change_on_resume(make_job: Callable[..., Any], train_here: Train) -> None:
    """Arguments without effect on the state may change on resume: how often to save, what to keep, what to export."""
    job = make_job(num_train_steps=2, save_every_steps=1)
    train_here(job)
    job["args"].update(save_every_steps=2, keep_checkpoints=1, log_every_steps=7, keep_every_steps=2, export="best")
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
    """Training learns: after 60 steps the loss is well below its first value."""
    job = make_job(num_train_steps=60, save_every_steps=60, learning_rate=0.02)
    train_here(job)
    losses = [row["loss"] for row in metrics_of(job)]
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]


def test_stop_at_ends_early_on_the_full_schedule(
    whole: dict[str, Any], make_job: Callable[..., Any], train_here: Train, metrics_of: Callable[..., Any]
) -> None:
    """The smoke run's steps are the first steps of the full run: same batches, rates and losses."""
    smoke = make_job("smoke")
    train_here({**smoke, "stop_at": 2})
    assert metrics_of(smoke) == metrics_of(whole)[:2]


def test_a_non_finite_loss_stops_training(make_job: Callable[..., Any], train_here: Train) -> None:
    """A diverging run fails with advice, and the broken state is not saved."""
    job = make_job(learning_rate=1e30, max_grad_norm=None, warmup_steps=0, save_every_steps=1)
    with pytest.raises(
        RunFailed,
        match=r"train step [0-9]+: the loss or a gradient is NaN or infinite, once; 0 are tolerated; "
        r"the rows of its batch: ",
    ) as caught:
        train_here(job)
    assert caught.value.code == "T131"
    assert len(list((Path(job["work"]) / "checkpoints").iterdir())) < 3


def test_a_non_finite_loss_can_be_tolerated(make_job: Callable[..., Any], train_here: Train) -> None:
    """With max_skipped_steps the non-finite steps are counted and recorded, and training continues."""
    job = make_job(learning_rate=1e30, max_grad_norm=None, warmup_steps=0, max_skipped_steps=1000)
    try:
        train_here(job)
    except RunFailed as error:  # if the last step is one of them
        assert "the last train step, 12, was skipped" in str(error)  # noqa: PT017
    rows = [json.loads(line) for line in (Path(job["work"]) / "metrics.jsonl").read_text().splitlines()]
    skipped = [row for row in rows if row.get("skipped")]
    assert len(rows) == 12
    assert skipped
    assert all(row["loss"] is None or row["grad_norm"] is None for row in skipped)
    assert not any(row["loss"] is None for row in rows if not row.get("skipped"))


def test_skips_in_a_row_are_counted_across_a_restart(make_job: Callable[..., Any], train_here: Train) -> None:
    """The error is the same after a restart in between."""
    job = make_job(learning_rate=1e30, max_grad_norm=None, warmup_steps=0, save_every_steps=1, max_skipped_steps=3)
    ends = []
    for _ in range(2):
        with pytest.raises(RunFailed, match="4 times in a row; 3 are tolerated") as caught:
            train_here(job)
        ends.append(caught.value.diagnostics[0].message)
    assert ends[0] == ends[1]


def test_damaged_metrics_are_restored_from_their_copy(
    whole: dict[str, Any], make_job: Callable[..., Any], train_here: Train, metrics_of: Callable[..., Any]
) -> None:
    """A flipped byte in the metrics costs no checkpoint, and the run ends as an undamaged one."""
    hurt = make_job("hurt")
    train_here({**hurt, "stop_at": 6})
    path = Path(hurt["work"]) / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1", b"7", 1))
    events = train_here(hurt)
    assert [event["text"] for event in events if event["event"] == "note"] == [
        "metrics.jsonl was damaged: its rows are those of its copy"
    ]
    assert [event["train_step"] for event in events if event["event"] == "restored"] == [6]
    assert metrics_of(hurt) == metrics_of(whole)


def test_eval_rows_must_leave_something(make_job: Callable[..., Any], train_here: Train) -> None:
    """Withholding every row is an error."""
    with pytest.raises(InputInvalid, match="leaves none of 40 rows"):
        train_here(make_job(eval_rows=40))


def test_unknown_arguments_are_refused(make_job: Callable[..., Any], train_here: Train) -> None:
    """An unknown argument is an error."""
    with pytest.raises(InputInvalid, match=r'unknown field "args\.lerning_rate"; did you mean "learning_rate"\?'):
        train_here(make_job(lerning_rate=1))


EVALUATED = {"eval_rows": 8, "eval_every_steps": 1, "save_every_steps": 1, "keep_checkpoints": 1, "num_train_steps": 5}


def test_the_best_is_exported_if_declared(make_job: Callable[..., Any], train_here: Train) -> None:
    """``export: best`` gives the weights of the lowest eval loss, byte for byte, and the report names their step."""
    steep = {**EVALUATED, "learning_rate": 1.0, "warmup_steps": 0, "lr_schedule": "constant", "max_grad_norm": None}
    job = make_job("best", **steep, keep_best=1, export="best")
    report = train_here(job)[-1]["report"]
    rows = [json.loads(line) for line in (Path(job["out"]) / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["eval_loss"])
    assert best["train_step"] < 5  # otherwise this shows nothing
    assert (report["exported_train_step"], report["exported_eval_loss"]) == (best["train_step"], best["eval_loss"])
    assert (report["num_train_steps"], report["final_loss"]) == (5, rows[-1]["loss"])
    existing = sorted(path.name for path in (Path(job["work"]) / "checkpoints").iterdir())
    assert existing == [f"{best['train_step']:08d}", "00000005"]
    until = make_job("until", **steep)
    train_here({**until, "stop_at": best["train_step"]})
    exported = [(Path(one["out"]) / "model" / "model.safetensors").read_bytes() for one in (job, until)]
    assert exported[0] == exported[1]


@pytest.fixture
def eval_losses(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Train step -> the eval loss it gets; a real NaN would need a model that overflows on the withheld rows alone."""
    losses: dict[int, float] = {}
    asked = [0]
    is_due = Evaluator.is_due

    def note(self: Evaluator, train_step: int, last: int) -> bool:
        asked[0] = train_step
        return is_due(self, train_step, last)

    monkeypatch.setattr(Evaluator, "is_due", note)
    monkeypatch.setattr(Evaluator, "loss", lambda *_: losses[asked[0]])
    return losses


def test_an_eval_loss_that_is_not_finite_is_recorded_and_never_best(
    make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None], eval_losses: dict[int, float]
) -> None:
    """NaN and infinities become null with their reason, the run goes on and resumes, and the best is a finite one."""
    eval_losses.update({1: math.nan, 2: 2.0, 3: -math.inf, 4: 3.0, 5: math.inf})
    whole, job = (make_job(name, **EVALUATED, keep_best=1, export="best") for name in ("whole", "stopped"))
    report = train_here(whole)[-1]["report"]
    rows = [json.loads(line) for line in (Path(whole["out"]) / "metrics.jsonl").read_text().splitlines()]
    assert [row["eval_loss"] for row in rows] == [None, 2.0, None, 3.0, None]
    assert [row.get("non_finite") for row in rows] == [
        {"eval_loss": "NaN"}, None, {"eval_loss": "-Infinity"}, None, {"eval_loss": "Infinity"},
    ]  # fmt: skip
    assert (report["exported_train_step"], report["exported_eval_loss"]) == (2, 2.0)
    assert (report["final_eval_loss"], report["n_non_finite_evals"]) == (None, 3)
    assert report["not_applicable"]["final_eval_loss"] == "the eval loss of train step 5 is Infinity"
    assert sorted(path.name for path in (Path(whole["work"]) / "checkpoints").iterdir()) == ["00000002", "00000005"]
    train_here(job, stop_after=3)
    train_here(job)
    same_training(whole, job)


def test_without_a_finite_eval_loss_the_last_weights_are_exported(
    make_job: Callable[..., Any], train_here: Train, eval_losses: dict[int, float]
) -> None:
    """``export: best`` has nothing to choose from: it says so, and the report names the train step and the reason."""
    eval_losses.update(dict.fromkeys(range(1, 6), math.nan))
    events = train_here(make_job("none", **EVALUATED, keep_best=1, export="best"))
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes == ["no checkpoint has a finite eval loss: the last weights are exported, not the best"]
    report = events[-1]["report"]
    assert (report["exported_train_step"], report["exported_eval_loss"]) == (5, None)
    assert report["not_applicable"]["exported_eval_loss"] == "the eval loss of train step 5 is NaN"
    lines = [describe(event) for event in events if event["event"] == "eval"]
    assert lines[0] == (
        "evaluated after train step 1: the eval loss is NaN; it is recorded as null and is never the best"
    )


def _begin_and_wait(checkpoints: Checkpoints, *arguments: Any) -> None:
    """These train steps take no time; real ones take longer than the write."""
    BEGIN(checkpoints, *arguments)
    checkpoints.wait()


def test_a_failed_save_stops_training_at_the_next_step(
    whole: dict[str, Any], make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An error in the background is raised at the next train step, and the next start ends in the same bytes."""
    job = make_job("failed")
    with monkeypatch.context() as patched:

        def refuse(folder: Path, *_: Any) -> None:
            raise OSError(28, "No space left on device", str(folder))

        patched.setattr(Checkpoints, "begin", _begin_and_wait)
        patched.setattr("engine.trainer.checkpoint.checkpoints.write_manifest", refuse)
        with pytest.raises(OSError, match="No space left"):
            train_here(job)
    rows = (Path(job["work"]) / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 4  # not at the next save, step 6
    assert list((Path(job["work"]) / "checkpoints").iterdir()) == []
    train_here(job)
    same_training(whole, job)


@pytest.mark.parametrize(
    ("words", "reason", "hint"),
    [
        ("tensorstore says no\nand more", "tensorstore says no", "free some disk space there"),
        (
            "OUT_OF_RANGE: Error writing \"['opt_state']\" in a long path: File too large [more]",
            "File too large",
            "ulimit",
        ),
    ],
)
def test_the_last_save_fails_before_anything_is_exported(
    make_job: Callable[..., Any], train_here: Train, monkeypatch: pytest.MonkeyPatch, words: str, reason: str, hint: str
) -> None:
    """A run whose last checkpoint was not published is not finished."""
    job = make_job(num_train_steps=2, save_every_steps=2)

    def refuse(folder: Path, *_: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr("engine.trainer.checkpoint.checkpoints.write_manifest", refuse)
    with pytest.raises(RunFailed, match=rf"the checkpoint cannot be written: {reason}\n") as caught:
        train_here(job)
    assert caught.value.code == "T141"
    assert hint in str(caught.value.hint)
    assert not Path(job["out"]).exists()


def test_too_little_disk_space_for_the_next_checkpoint_costs_no_step(
    whole: dict[str, Any], make_job: Callable[..., Any], train_here: Train, same_training: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """If the first checkpoint fills the disk, training stops there, and resumes from there once there is space."""
    job = make_job("full")
    folder = Path(job["work"]) / "checkpoints"
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "begin", _begin_and_wait)
        patched.setattr(
            "engine.trainer.checkpoint.disk_space.free_bytes",
            lambda _: 0 if any(p.name.isdigit() for p in folder.iterdir()) else 1 << 40,
        )
        with pytest.raises(RunFailed, match="the checkpoint of train step 3 is kept") as caught:
            train_here(job)
    assert caught.value.code == "T143"
    assert [path.name for path in folder.iterdir()] == ["00000003"]
    assert len((Path(job["work"]) / "metrics.jsonl").read_text().splitlines()) == 4  # not at the next save, step 6
    events = train_here(job)
    assert events[1] == {"event": "restored", "train_step": 3}
    same_training(whole, job)


def test_too_little_disk_space_is_an_error_before_anything_is_compiled(
    make_job: Callable[..., Any], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk too small for the checkpoints that are declared is refused before the first train step."""
    monkeypatch.setattr("engine.trainer.checkpoint.disk_space.free_bytes", lambda _: 2 << 20)
    events: list[dict[str, Any]] = []
    with pytest.raises(
        RunFailed, match=r"not enough disk space for 3 checkpoints: .* needed, 2\.00 MiB free; nothing has been saved"
    ):
        events += train_here(make_job())
    assert "compiled" not in names(events)


@pytest.mark.timeout(600)  # four processes' worth of work, on a machine that may be busy
def test_other_devices_are_refused_or_declared(
    make_job: Callable[..., Any], child: Callable[..., Any], train_here: Train, metrics_of: Callable[..., Any]
) -> None:
    """Started on two devices, resumed on one: refused; declared, the same batches, an event and a report entry."""
    declared = {"on_other_devices": "reshard", "learning_rate": 1e-4, "num_train_steps": 6}
    whole, job = make_job("whole", **declared, per_device_batch_size=4), make_job("moved", **declared)
    train_here(whole)
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    assert child({**job, "stop_at": 3}, env=environment).finish() == 0
    refused = {**job, "args": {**job["args"], "on_other_devices": "refuse"}}
    with pytest.raises(InputInvalid, match=r"topology was 2 x cpu \(mesh fsdp=2, tp=1\), now it is 1 x cpu") as caught:
        train_here(refused)
    assert "on_other_devices: reshard" in (caught.value.hint or "")
    events = train_here(job)
    moved = {"train_step": 3, "was": "2 x cpu (mesh fsdp=2, tp=1)", "now": "1 x cpu", "micro_batches": 2}
    assert events[1:3] == [{"event": "restored", "train_step": 3}, {"event": "resharded", **moved}]
    assert events[-1]["report"]["moves"] == [moved]
    losses = [[row["loss"] for row in metrics_of(one)] for one in (whole, job)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    with pytest.raises(InputInvalid, match="sequences a train step was 4, now it is 2"):
        train_here(refused)
