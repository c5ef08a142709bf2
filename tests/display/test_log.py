"""The log of a run is JSONL without secrets; a log that cannot be written never stops a run."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from engine.display.log import RunLog, jsonl_logger, write_traceback
from engine.redact import MASK

SECRET = 'p/w+d "x"\\ü-9876543210'


def _planned(step_id: str) -> SimpleNamespace:
    step = SimpleNamespace(id=step_id, uses="toy")
    return SimpleNamespace(step=step, reason="not made yet", handler=SimpleNamespace(title="plays"))


def test_the_run_log_is_jsonl_without_secrets(tmp_path, monkeypatch):
    """Every call becomes one JSON object with time, level, event and run_version; secrets are masked."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    path = tmp_path / "logs" / "v1.jsonl"
    log = RunLog(path, run_version="v1", command="runspec run x.yaml")
    log.step_skipped("a", "nothing changed")
    log.step_started(_planned("b"), 2, 2)
    log.event({"event": "train_step", "train_step": 1, "loss": 0.5})
    log.note(f"logged in with {SECRET}")
    log.step_finished("b", 1.23456, {"n_rows": 3})
    log.finished(["b"], ["a"], 2.0)
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["event"] for row in rows] == [
        "run_started", "step_skipped", "step_started", "train_step", "note", "step_finished", "run_finished",
    ]  # fmt: skip
    assert all(row["run_version"] == "v1" and row["level"] == "info" and row["time"].endswith("Z") for row in rows)
    assert rows[4]["text"] == f"logged in with {MASK}"
    assert SECRET not in path.read_text()


def test_a_run_with_nothing_to_do_writes_no_log(tmp_path):
    """Skipped steps alone neither create nor extend the log."""
    log = RunLog(tmp_path / "v1.jsonl", run_version="v1", command="c")
    log.step_skipped("a", "nothing changed")
    log.finished([], ["a"], 0.1)
    log.close()
    assert not (tmp_path / "v1.jsonl").exists()


def test_a_second_run_appends(tmp_path):
    """The log of a resumed run continues in the same file."""
    for _ in range(2):
        log = RunLog(tmp_path / "v1.jsonl", run_version="v1", command="c")
        log.note("hello")
        log.close()
    assert len((tmp_path / "v1.jsonl").read_text().splitlines()) == 4


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path, capsys):
    """One warning, and the run continues."""
    (tmp_path / "logs").write_text("a file where a folder should be")
    log = RunLog(tmp_path / "logs" / "v1.jsonl", run_version="v1", command="c")
    log.note("one")
    log.note("two")
    log.close()
    assert capsys.readouterr().err.count("warning: no log is kept") == 1


@pytest.mark.skipif("not __import__('os').path.exists('/dev/full')", reason="needs /dev/full")
def test_a_full_disk_stops_no_run(capsys):
    """When the disk is full, the log ends with one warning."""
    from pathlib import Path

    log = RunLog(Path("/dev/full"), run_version="v1", command="c")
    log.note("one")
    log.note("two")
    log.close()
    assert capsys.readouterr().err.count("warning: no log is kept") == 1


def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(tmp_path, capsys):
    """Nobody reads it."""
    os.mkfifo(tmp_path / "v1.jsonl")
    log = RunLog(tmp_path / "v1.jsonl", run_version="v1", command="c")
    log.note("one")
    log.close()
    assert capsys.readouterr().err.count("v1.jsonl: something else is at that path") == 1


def test_exceptions_are_logged_without_local_variables(tmp_path):
    """A traceback file has the frames and never the values in them."""

    def fails() -> None:
        local_value = "only-a-local-variable-holds-this"
        raise ValueError(len(local_value))

    try:
        fails()
    except ValueError as error:
        path = write_traceback(error, "runspec x", tmp_path)
    text = path.read_text()
    assert "in fails" in text
    assert "local_value = 'only" not in text


def test_unknown_objects_are_written_as_text(tmp_path):
    """A value without a JSON form cannot break the log."""
    with (tmp_path / "x.jsonl").open("w") as stream:
        jsonl_logger(stream).info("event", path=tmp_path)
    assert json.loads((tmp_path / "x.jsonl").read_text())["path"] == str(tmp_path)
