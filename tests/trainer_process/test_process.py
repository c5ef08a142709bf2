"""The environment that a trainer's process is given, and how its end is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.errors import RunspecError, render
from engine.protocol.events import to_line
from engine.protocol.events.base import Event, Note
from engine.protocol.events.generation import Generated, GenerationStopped
from engine.protocol.events.inputs import Download
from engine.protocol.events.training import TrainStopped
from engine.trainer_process import process
from engine.trainer_process.process import Host, run_trainer, trainer_environment
from tests.fixtures.event_samples import TRAIN_STEP
from tests.fixtures.job_samples import JOB_SAMPLES

# It stands for the trainer's process: says what it was told to say, and ends as it was told.
SAYS_AND_ENDS = """
import os, signal, sys
print(sys.argv[1], flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("theirs", "given"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_huge_pages_unless_the_person_says_otherwise(
    theirs: str | None, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable holds all tunables of the C library: ours joins what is there, and goes after it."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if theirs is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", theirs)
    assert trainer_environment()["GLIBC_TUNABLES"] == given


@pytest.mark.parametrize(
    ("verb", "event", "end", "told"),
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
            """error[R202]: the tokens process ended with exit status 3 and no word why
   = help: run the same command again""",
        ),
    ],
)  # fmt: skip
def test_how_an_end_is_told(
    verb: str, event: Event, end: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost, and what would help, are said of the work that was being done."""
    script = tmp_path / "child.py"
    script.write_text(SAYS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), to_line(event), end])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES[verb], Host(tmp_path, tmp_path))
    assert render(*caught.value.diagnostics) == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"event": "restored", "train_step": 3, "grams": 1}', 'event "restored": unknown field "grams"'),
        ('{"event": "restored"}', 'event "restored": missing field "train_step"'),
        ('{"event": "melted"}', 'unknown event "melted"'),
        ("[1]", "an event must be a mapping"),
    ],
)
def test_what_the_engine_does_not_understand_is_named(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of another version of the trainer ends the step with R207; nothing is guessed, and the child is gone."""
    script = tmp_path / "child.py"
    script.write_text(SAYS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), line, "0"])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES["probe"], Host(tmp_path, tmp_path))
    text = render(*caught.value.diagnostics)
    assert text.startswith(f"error[R207]: the trainer sent what this engine does not understand: {told}")
    assert "install runspec-engine again" in text
