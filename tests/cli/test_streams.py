"""Any command, with any of its streams closed, full, broken or in any encoding: the same exit code, and no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.cli import _lacking
from engine.commands.table import COMMANDS
from engine.streams import PLAIN
from tests.fixtures import version_1
from tests.fixtures.streams import CASES

REPOSITORY = Path(__file__).parent.parent.parent
SPEC = "runspecs/quickstart.yaml"
# command -> words; the second one of a command is a failure of it
WORDS: Mapping[str, tuple[list[str], ...]] = {
    "init": (["init", "quickstart", "--dir", "made"], ["init", "nothing"]),
    "presets": (["presets"],),
    "steps": (["steps"],),
    "schema": (["schema", "train_sft"], ["schema", "x"]),
    "doctor": (["doctor", "--no-devices"],),
    "docs": (["docs", "spec"], ["docs", "T999"]),
    "validate": (["validate", SPEC], ["validate", "nothere–é.yaml"]),
    "plan": (["plan", SPEC], ["plan", SPEC, "train.sed=1"]),
    "run": (["run", SPEC, "dataset.num_rows=20", "--to", "dataset", "--force", "dataset"],
            ["run", SPEC, "--only", "score"]),
    "launch": (["launch", SPEC, "--print", "--for", "slurm"], ["launch", SPEC]),
    "status": (["status"], ["status", "no_such_run"]),
    "show": (["show", SPEC],),
    "explain": (["explain", SPEC],),
    "logs": (["logs", SPEC],),
    "evidence": (["evidence", SPEC],),
    "package": (["package", SPEC],),
    "verify": (["verify", "submission_runs/quickstart_v1"], ["verify", "damaged"]),
    "sign": (["sign", "submission_runs/quickstart_v1", "--key", "no.key"],),
    "report": (["report", "submission_runs/quickstart_v1"], ["report", "damaged"]),
    "items": (["items", "submission_runs/quickstart_v1"], ["items", "damaged", "--wrong"]),
    "score": (["score", "submission_runs/quickstart_v1/predictions.jsonl", "evalsets/eval_v2.jsonl"], ["score", "x", "y"]),
    "dataset check": (["dataset", "check", "evalsets/eval_v2.jsonl"],),
    "dataset build": (["dataset", "build", "quickstart-reasoning", "--num-rows", "5"],),
    "evalset check": (["evalset", "check", "evalsets/eval_v2.jsonl"], ["evalset", "check", SPEC]),
    "kaggle notebook": (["kaggle", "notebook", SPEC], ["kaggle", "notebook", SPEC, "--offline"]),
    "kaggle push": (["kaggle", "push", SPEC],),
    "kaggle run": (["kaggle", "run", SPEC],),
    "kaggle status": (["kaggle", "status"], ["kaggle", "status", "no_such_run"]),
    "kaggle logs": (["kaggle", "logs", SPEC],),
    "kaggle fetch": (["kaggle", "fetch", SPEC],),
}  # fmt: skip


TEXT_CASES = tuple(case for case in CASES if case != "utf-16")
FAILURE_CASES = ("untouched", "stdout closed", "stderr closed", "stdout full", "ascii")
# With --json standard output has one document: where it can be read, and where standard error cannot.
JSON_CASES = ("untouched", "stderr closed", "ascii", "utf-16")
LINES = {" ".join(words): words for of_command in WORDS.values() for words in of_command}
FAILURES = {" ".join(of_command[1]) for of_command in WORDS.values() if len(of_command) > 1}


def _cases(line: str, as_json: bool) -> tuple[str, ...]:
    """The cases that are tried: all of them for what succeeds, some for the failure of the same command."""
    if as_json:
        return JSON_CASES
    return FAILURE_CASES if line in FAILURES else TEXT_CASES


class Answer(NamedTuple):
    """What a process left behind."""

    code: int
    out: str
    err: str


def _answers(table: list[tuple[str, list[str]]], project: Path) -> list[Answer]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fixtures.streams"], input=json.dumps(table), cwd=project, text=True, check=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    return [Answer(*answer) for answer in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str, bool], Answer]:
    """(case, command line, whether --json) -> its answer, in a project with evidence and one that is damaged."""
    project = tmp_path_factory.mktemp("project")
    (project / ".runspec").mkdir()
    for folder in ("runspecs", "evalsets"):
        shutil.copytree(REPOSITORY / folder, project / folder)
    shutil.copytree(version_1.EVIDENCE, project / "submission_runs" / "quickstart_v1")
    shutil.copytree(project / "submission_runs" / "quickstart_v1", project / "damaged")
    (project / "damaged" / "metrics.jsonl").write_text("…\n", encoding="utf-8")
    keys = [(case, line, as_json) for as_json in (False, True) for line in LINES for case in _cases(line, as_json)]
    table = [(case, [*LINES[line], "--json"] if as_json else LINES[line]) for case, line, as_json in keys]
    return dict(zip(keys, _answers(table, project), strict=True))


def test_every_command_is_in_the_table() -> None:
    """A new command is tried with closed streams too."""
    assert set(WORDS) == {command.name for command in COMMANDS}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("line", LINES)
def test_the_exit_code_does_not_depend_on_the_streams(line: str, answers: Any) -> None:
    """Every case gives the untouched run's code, with and without --json, and nothing of Python's own on the screen."""
    for as_json in (False, True):
        cases = _cases(line, as_json)
        untouched = answers["untouched", line, as_json]
        codes = {case: answers[case, line, as_json].code for case in cases}
        assert codes == dict.fromkeys(cases, untouched.code)
        for case in cases:
            assert not re.search(
                "Traceback|Exception ignored|internal error|X301", "".join(answers[case, line, as_json][1:])
            )


@pytest.mark.parametrize("line", LINES)
def test_json_is_one_document_in_every_encoding(line: str, answers: Any) -> None:
    """The values are those of the untouched run: an encoding that lacks a character has its escape."""
    untouched = json.loads(answers["untouched", line, True].out.encode("latin-1"))
    for case in JSON_CASES:
        document = json.loads(answers[case, line, True].out.encode("latin-1").decode(CASES[case][3]))
        assert document.keys() == untouched.keys()
        assert document.get("diagnostics") == untouched.get("diagnostics")


@pytest.mark.parametrize("line", ["verify damaged", "docs spec", f"explain {SPEC}"])
def test_an_ascii_terminal_reads_the_same_text(line: str, answers: Any) -> None:
    """Our own signs have a plain form; the exit code of `verify` says what it found."""
    whole = answers["untouched", line, False].out.encode("latin-1").decode()
    assert not whole.isascii() or line.startswith(("explain", "verify"))
    expected = whole.translate(PLAIN).encode("ascii", "backslashreplace").decode()
    assert answers["ascii", line, False].out == expected
    assert answers["untouched", "verify damaged", False].code == 5


def test_an_answer_that_got_lost_is_a_warning(answers: Any) -> None:
    """U133 with the reason; a reader that left early is no fault and gets none."""
    hint = "\n   = help: the exit code is that of the command itself\n"
    closed, full = (answers[f"stdout {state}", "presets", False].err for state in ("closed", "full"))
    assert closed == f"warning[U133]: the answer cannot be written to standard output: it is closed{hint}"
    assert full == f"warning[U133]: the answer cannot be written to standard output: No space left on device{hint}"
    assert answers["stdout without a reader", "presets", False] == (0, "", "")


def test_characters_that_an_encoding_lacks_are_named(tmp_path: Path) -> None:
    """X321 where more than our own signs are replaced; --json has escapes and needs no warning."""
    (tmp_path / "größe-中").mkdir()
    plain, with_json = _answers(
        [("ascii", ["verify", "größe-中"]), ("ascii", ["verify", "größe-中", "--json"])], tmp_path
    )
    assert "gr\\xf6\\xdfe-\\u4e2d" in plain.err + plain.out
    assert json.loads(with_json.out)


def test_bytes_that_are_no_utf8_are_told_as_that() -> None:
    """Python's stand-ins for them are in no encoding: PYTHONIOENCODING=utf-8 would print nothing else."""
    assert _lacking({"\udce9"}).message == "the answer has bytes that are not UTF-8, as in a path (U+DCE9)"
    assert "PYTHONIOENCODING" not in str(_lacking({"\udce9"}).hint)
    assert "PYTHONIOENCODING=utf-8" in str(_lacking({"\udce9", "\u4e2d"}).hint)


@pytest.mark.parametrize("redirection", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_whole_processes_end_alike(redirection: str, tmp_path: Path) -> None:
    """What the forks show holds for processes that a shell starts: closed streams, exit code 2 of a missing run-spec."""
    command = f'"{sys.executable}" -m engine validate nothere.yaml {redirection}'
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """With all three closed, the next file that the process opens has number 3: no print of a library lands in it."""
    script = "from engine.streams import prepare; prepare(); import os, sys; sys.exit(os.open('x', os.O_CREAT))"
    command = f'"{sys.executable}" -c "{script}" <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=False).returncode == 3


def test_a_pipe_that_does_not_block_gets_all(tmp_path: Path) -> None:
    """Another program has set O_NONBLOCK on the pipe that both share: the answer waits for the reader."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = subprocess.Popen(
        [sys.executable, "-m", "engine", "docs", "errors"], stdout=writer, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    assert done.wait() == 0
    assert data.decode() == (REPOSITORY / "docs/reference/errors.md").read_text(encoding="utf-8")
