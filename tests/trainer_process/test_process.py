"""The environment of a trainer's process, and the message for each way it can end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.errors import RunspecError, render
from engine.protocol.events.base import Event, Note
from engine.protocol.events.generation import Generated, GenerationStopped
from engine.protocol.events.inputs import Download
from engine.protocol.events.table import to_line
from engine.protocol.events.training import TrainStopped
from engine.trainer_process import process
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer, trainer_environment
from tests.fixtures.event_samples import TRAIN_STEP
from tests.fixtures.job_samples import JOB_SAMPLES

# Stands for the trainer's process: prints its first argument, and ends as the second one says.
PRINTS_AND_ENDS = """
import os, signal, sys
print(sys.argv[1], flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("set_before", "passed_on"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_huge_pages_unless_the_user_sets_them(
    set_before: str | None, passed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable holds all tunables of the C library: the engine's is added after those that are set."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if set_before is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", set_before)
    assert trainer_environment()["GLIBC_TUNABLES"] == passed_on


@pytest.mark.parametrize(
    ("verb", "event", "end", "expected"),
    [
        (
            "train", TRAIN_STEP, "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller per_device_batch_size or seq_len needs less
           run the same command again: it resumes from the last checkpoint""",
        ),
        (
            "train", Download("model.safetensors", 1, 2), "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: run the same command again: it resumes where the download stopped""",
        ),
        (
            "generate", Generated(7, 100, 9.0), "killed",
            """error[R201]: the generate process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller batch_size or max_new_tokens needs less
           run the same command again: the answers so far are kept""",
        ),
        (
            "generate", GenerationStopped(7, 100), "0",
            "error[R203]: stopped after 7 of 100 answers; they are kept",
        ),
        (
            "train", TrainStopped(7), "0",
            "error[R203]: stopped at train step 7; a checkpoint was saved",
        ),
        (
            "tokens", Note("a note"), "3",
            """error[R202]: the tokens process ended with exit status 3 and no error report
   = help: run the same command again""",
        ),
    ],
)  # fmt: skip
def test_the_message_for_each_end(
    verb: str, event: Event, end: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what resumes and what would help, for the work that was under way."""
    script = tmp_path / "child.py"
    script.write_text(PRINTS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), to_line(event), end])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES[verb], Host(tmp_path, tmp_path))
    assert render(*caught.value.diagnostics) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"event": "restored", "train_step": 3, "grams": 1}', 'event "restored": unknown field "grams"'),
        ('{"event": "restored"}', 'event "restored": missing field "train_step"'),
        ('{"event": "melted"}', 'unknown event "melted"'),
        ("[1]", "an event must be a mapping"),
    ],
)
def test_an_unknown_event_is_named(line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of another version of the trainer ends the step with R207, and the child is killed."""
    script = tmp_path / "child.py"
    script.write_text(PRINTS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), line, "0"])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES["probe"], Host(tmp_path, tmp_path))
    text = render(*caught.value.diagnostics)
    assert text.startswith(f"error[R207]: the trainer sent an event that this engine does not understand: {expected}")
    assert "reinstall runspec-engine" in text
