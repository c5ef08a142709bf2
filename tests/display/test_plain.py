"""The displays of a run, from a scripted list of events."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pty
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from engine.display.event_text import describe
from engine.display.plain import PlainConsole, Tee, make_console
from engine.protocol.events.base import Finished
from engine.protocol.events.checkpoints import CheckpointSaved, CheckpointUnusable, Restored
from engine.protocol.events.generation import Generated
from engine.protocol.events.inputs import Tokenizing
from engine.protocol.events.training import Compiled, Evaluated, TrainStep
from engine.protocol.figures import duration, number
from tests.fixtures.event_samples import TRAIN_STARTED, TRAIN_STEP

GOLDEN = """\
[1/3] dataset · build_dataset: builds the rows
[1/3] dataset done in 0.4s · n_rows 4,500 · n_duplicates 0
      smoke skipped: made 2026-01-02T03:04:05Z, nothing it depends on has changed
[3/3] train · train_sft: trains the model
      on cpu, 1,051,776 parameters, 4,500 rows, 97 % of each batch are real tokens
      resumed from the checkpoint of train step 5
      compiled in 3.2s
      train step 6/20 · loss 2.5000 · 7,312 tokens/s · 1m 53s left
      train step 10/20 · loss 1.2500 · 7,400 tokens/s · 1m 00s left
      checkpoint at train step 10
      the checkpoint of train step 15 is unusable: digest differs
      train step 20/20 · loss 0.0123 · 7,500 tokens/s · 0.0s left
      evaluated after train step 20: loss 0.0456
      a note
      in two lines
[3/3] train done in 1m 53s · final_loss 0.0123 · tokens_per_second 7,500
2 steps ran, 1 skipped, in 2h 05m
"""


def _planned(step_id: str, uses: str, title: str) -> SimpleNamespace:
    return SimpleNamespace(step=SimpleNamespace(id=step_id, uses=uses), handler=SimpleNamespace(title=title))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_of_training_is_at_most_60_kb_of_plain_lines():
    """Law: what a notebook keeps of an hour, with long numbers, a checkpoint a minute and an evaluation every two."""
    stream, clock = io.StringIO(), Clock()
    console = PlainConsole(stream, clock)
    console.step_started(_planned("train", "train_sft", "trains the model"), 1, 1)
    for at in range(1, 3601):
        clock.now += 1.0
        step = replace(
            TRAIN_STEP,
            train_step=at,
            num_train_steps=100_000,
            loss=10.12345,
            tokens_per_second=123_456.7,
            seconds_left=99_999.0,
        )
        console.event(step)
        if at % 60 == 0:
            console.event(CheckpointSaved(at, 12.5, 0.0))
        if at % 120 == 0:
            console.event(Evaluated(at, 10.12345))
    text = stream.getvalue()
    assert 15_000 < len(text.encode()) < 60_000
    assert text.count("\n") > 250


def _train_step(at: int, loss: float, speed: float, left: float) -> TrainStep:
    return replace(TRAIN_STEP, train_step=at, num_train_steps=20, loss=loss, tokens_per_second=speed, seconds_left=left)


def play(console: object, clock: Clock) -> None:
    """A run of three steps: one made, one skipped, one resumed."""
    console.step_started(_planned("dataset", "build_dataset", "builds the rows"), 1, 3)
    console.step_finished("dataset", 0.42, {"n_rows": 4500, "n_duplicates": 0, "render": "reasoning@v1"})
    console.step_skipped("smoke", "made 2026-01-02T03:04:05Z, nothing it depends on has changed")
    console.step_started(_planned("train", "train_sft", "trains the model"), 3, 3)
    console.event(replace(TRAIN_STARTED, params=1051776, n_rows=4500, real_token_share=0.97))
    console.event(Restored(5))
    console.event(Compiled(3.2, "none", "plain", "after_backward", "float32"))
    for at, loss, speed, left in ((6, 2.5, 7312.4, 113.0), (7, 2.4, 7300.0, 100.0), (8, 2.3, 7300.0, 90.0)):
        console.event(_train_step(at, loss, speed, left))
        clock.now += 0.8
    console.event(_train_step(10, 1.25, 7400.0, 60.0))
    console.event(CheckpointSaved(10, 0.4, 0.0))
    console.event(CheckpointUnusable(15, "digest differs"))
    console.event(_train_step(20, 0.0123, 7500.0, 0.0))
    console.event(Evaluated(20, 0.0456))
    console.event(Finished({}))
    console.note("a note\nin two lines")
    console.step_finished("train", 113.4, {"final_loss": 0.0123, "tokens_per_second": 7500.2, "devices": ["cpu:0"]})
    console.finished(["dataset", "train"], ["smoke"], 7512.0)
    console.close()


def test_plain_lines_are_golden():
    """Lines are readable, in order, and progress comes at most every two seconds, first and last always."""
    stream, clock = io.StringIO(), Clock()
    play(PlainConsole(stream, clock), clock)
    assert stream.getvalue() == GOLDEN


def test_a_run_with_nothing_to_do_has_its_own_last_line():
    """One line for each skipped step and one for the run."""
    stream = io.StringIO()
    console = PlainConsole(stream)
    console.step_skipped("a", "nothing changed")
    console.finished([], ["a"], 0.1)
    assert stream.getvalue() == "      a skipped: nothing changed\nnothing to do: the step is done already\n"


def test_progress_is_written_to_standard_error_only(capsys):
    """Standard output is for the command's answer."""
    play(make_console(), Clock())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train step 20/20" in captured.err


def test_secrets_are_masked_on_the_screen(monkeypatch):
    """A note that quotes a token shows the mask."""
    monkeypatch.setenv("HF_TOKEN", "0123456789secret")
    stream = io.StringIO()
    PlainConsole(stream).note("token 0123456789secret")
    assert stream.getvalue() == "      token ***\n"


def test_quiet_prints_nothing(capsys):
    """With --quiet neither stream gets a byte."""
    play(make_console(quiet=True), Clock())
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_live_display(monkeypatch):
    """On a terminal the same events give bars and the same lines that stay."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = make_console(stream=stream)
    assert type(console).__name__ == "LiveConsole"
    play(console, Clock())
    text = stream.getvalue()
    for line in (
        "train done in 1m 53s",
        "checkpoint at train step 10",
        "smoke skipped",
        "2 steps ran, 1 skipped",
    ):
        assert line in text


def test_the_live_display_has_a_bar_for_tokenising(monkeypatch):
    """Tokenising moves a bar with its own label, and the train steps then use the same bar."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = make_console(stream=stream)
    console.step_started(_planned("train", "train_sft", "trains the model"), 1, 1)
    for event, label in ((Tokenizing(7, 9), "tokenized"),
                         (_train_step(6, 2.5, 7312.4, 113.0), "train step")):  # fmt: skip
        console.event(event)
        console._progress.refresh()
        assert label in stream.getvalue()
    assert "7/9" in stream.getvalue()
    console.close()


def test_no_color_is_respected(monkeypatch):
    """With NO_COLOR the live display has no colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    play(make_console(stream=stream), Clock())
    assert "\x1b[32m" not in stream.getvalue()
    assert "\x1b[91m" not in stream.getvalue()


def test_the_live_display_prints_brackets_as_they_are(monkeypatch):
    """Text in brackets is text, not markup."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = make_console(stream=stream)
    console.note("pip install 'runspec-engine[train]' [bold]x[/bold]")
    console.close()
    assert "runspec-engine[train]" in stream.getvalue()
    assert "[bold]x[/bold]" in stream.getvalue()


@pytest.mark.parametrize("arguments", [{"plain": True}, {}])
def test_a_dumb_terminal_or_json_gets_plain_lines(monkeypatch, arguments):
    """Neither --json nor TERM=dumb gets the live display."""
    monkeypatch.setenv("TERM", "xterm" if arguments else "dumb")
    assert isinstance(make_console(stream=Terminal(), **arguments), PlainConsole)


@pytest.mark.parametrize(
    "name",
    ["JPY_PARENT_PID", "JPY_SESSION_NAME", "KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "DATABRICKS_RUNTIME_VERSION"],
)
def test_a_notebook_gets_plain_lines(monkeypatch, name):
    """`!runspec …` in a cell has a pseudo-terminal, which does not redraw."""
    monkeypatch.setenv("TERM", "xterm-color")
    assert type(make_console(stream=Terminal())).__name__ == "LiveConsole"
    monkeypatch.setenv(name, "1")
    assert isinstance(make_console(stream=Terminal()), PlainConsole)


@pytest.mark.parametrize(
    ("variables", "words", "is_plain"),
    [({}, [], False), ({}, ["--plain"], True), ({"JPY_PARENT_PID": "7", "FORCE_COLOR": "1"}, [], True)],
    ids=["terminal", "--plain", "notebook"],
)
def test_a_cell_gets_no_escape_sequence(variables, words, is_plain, tmp_path, repository):
    """A real pseudo-terminal: the live display draws on it, a notebook's cell and --plain get lines and nothing else."""
    for folder in ("runspecs", "evalsets", ".runspec"):
        (tmp_path / folder).mkdir()
    for name in ("runspecs/quickstart.yaml", "evalsets/quickstart.jsonl"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    ours, theirs = pty.openpty()
    words = ["run", "runspecs/quickstart.yaml", "dataset.num_rows=20", "--to", "dataset", *words]
    environment = {**os.environ, "TERM": "xterm-color", "PYTHONPATH": str(repository), **variables}
    child = subprocess.Popen(
        [sys.executable, "-m", "engine", *words], stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed: the process has ended
        while more := os.read(ours, 65536):
            said += more
    os.close(ours)
    assert child.wait() == 0
    text = said.decode().replace("\r\n", "\n")
    assert ("\x1b[" not in text and "\r" not in text) == is_plain
    if is_plain:
        first, *lines, end, answer = text.splitlines()
        assert first.startswith("[1/6] dataset · build_dataset: ")
        assert sum(line.startswith("[1/6] dataset done in ") for line in lines) == 1
        assert end.startswith("1 step ran, 5 skipped, in ")
        assert answer == "ran: dataset; a part of the steps makes no evidence"


def test_plain_lines_do_not_import_rich():
    """A pipe or a notebook does not spend the time that importing rich takes."""
    script = "import sys, engine.display.plain as c; c.make_console(); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_tee_calls_every_console():
    """Both consoles show the same run."""
    first, second, clock = io.StringIO(), io.StringIO(), Clock()
    play(Tee(PlainConsole(first, clock), PlainConsole(second, clock)), clock)
    assert first.getvalue() == second.getvalue() == GOLDEN


def test_a_display_that_cannot_be_written_is_dropped():
    """When the terminal is closed, the log still gets everything, and nothing is raised."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    log, clock = io.StringIO(), Clock()
    tee = Tee(PlainConsole(Closed(), clock), PlainConsole(log, clock))
    play(tee, clock)
    tee.close()
    assert log.getvalue() == GOLDEN


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Generated(64, 100, 812.4), "generated 64/100 · 812 tokens/s"),
        ({"event": "plugin_thing", "count": 1200}, "plugin_thing · count 1,200"),
        ({"event": "eval", "loss": 3}, "eval · loss 3"),
        ({"event": "restored", "train_step": 25}, "resumed from the checkpoint of train step 25"),
        ({"event": "restored", "train_step": "soon"}, "restored · train_step soon"),
        (Finished({}), None),
        ({}, None),
    ],
)  # fmt: skip
def test_each_event_has_its_line(event, line):
    """Known events are sentences; those of other packages, and malformed ones, are their name and fields, never an error."""
    assert describe(event) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (59.6, "1m 00s"), (10, "10s"), (3599.6, "1h 00m"), (7500, "2h 05m")],
)
def test_durations_are_readable(seconds, text):
    """No `60s`, no `60m`."""
    assert duration(seconds) == text


def test_numbers_are_readable():
    """Small fractions have four decimals, large numbers have separators, booleans stay words."""
    assert [number(value) for value in (True, 5, 1234567, 0.5, 12345.6, "x")] == [
        "True", "5", "1,234,567", "0.5000", "12,346", "x",
    ]  # fmt: skip
