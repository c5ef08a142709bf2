"""The environment that a trainer's process is given, and how its end is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.errors import RunspecError, render
from engine.trainer_process import process
from engine.trainer_process.process import ask_trainer, trainer_environment

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
            "train", '{"event": "train_step"}', "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller per_device_batch_size or seq_len needs less
           run the same command again: it goes on from the last checkpoint""",
        ),
        (
            "train", '{"event": "download", "file": "model.safetensors"}', "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: run the same command again: it goes on where the download stopped""",
        ),
        (
            "generate", '{"event": "generated"}', "killed",
            """error[R201]: the generate process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller batch_size or max_new_tokens needs less
           run the same command again: the answers so far are kept""",
        ),
        (
            "generate", '{"event": "stopped", "done": 7, "total": 100}', "0",
            "error[R203]: stopped after 7 of 100 answers; they are kept",
        ),
        (
            "train", '{"event": "stopped", "train_step": 7}', "0",
            "error[R203]: stopped at train step 7; a checkpoint was saved",
        ),
        (
            "tokens", '{"event": "note"}', "3",
            """error[R202]: the tokens process ended with exit status 3 and no word why
   = help: run the same command again""",
        ),
    ],
)  # fmt: skip
def test_how_an_end_is_told(
    verb: str, event: str, end: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost, and what would help, are said of the work that was being done."""
    script = tmp_path / "child.py"
    script.write_text(SAYS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), event, end])
    with pytest.raises(RunspecError) as caught:
        ask_trainer(verb, {}, work=tmp_path, cwd=tmp_path)
    assert render(*caught.value.diagnostics) == told
