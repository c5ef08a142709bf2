"""No character of a stranger acts on a terminal: each command is sent control characters through everything it shows.

In: one text with every kind of acting character, as a name, a key, a value, an answer, a line of a log, a word on the
command line. Out: the bytes that the command wrote to both streams, which must show that text with its characters named.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.artifacts.journal import Journal, journal_path
from engine.canonical import digest_bytes
from engine.display.live import LiveConsole
from engine.display.log import RunLog, write_traceback
from engine.display.plain import PlainConsole
from engine.streams import _Door
from tests.ground.test_printable import ACTING

REPOSITORY = Path(__file__).parent.parent.parent
ACTS = "\x1b[2J\x1b]0;title\x07\x9b2J\r\b\x7f\u202e\u2066\u2028\x85"
FORGED = f"{ACTS}\nV24  pass  trust level L3"
NAMED = "<U+001B>[2J<U+001B>]0;title<U+0007><U+009B>2J<U+000D><U+0008><U+007F><U+202E><U+2066><U+2028><U+0085>"
IN_A_NAME = "\x1b[2J\x07\r\u202e\x7f"  # what a file may be called
NAMED_NAME = "<U+001B>[2J<U+0007><U+000D><U+202E><U+007F>"


def shown(folder: Path, *words: str) -> str:
    """What a real process writes to both streams; fails where a character of it acts."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, 2, 5), done
    text = done.stdout.decode("utf-8")
    assert {hex(ord(character)) for character in set(text) & set(ACTING) - {"\n"}} == set()
    assert not any(line.startswith("V24  pass") for line in text.split("\n"))
    return text


def forged_evidence(folder: Path) -> None:
    """Names, values, prompts and answers of a stranger, with a manifest that lists them."""
    record = {"run_version": FORGED, "model_id": FORGED, "steps": [{"uses": FORGED, "id": FORGED}], FORGED: FORGED}
    files = {
        "run_record.json": json.dumps(record, ensure_ascii=False),
        "run_manifest.json": json.dumps({**record, "model_id": "another", "not_applicable": {FORGED: FORGED}}),
        "predictions.jsonl": json.dumps({"id": FORGED, "text": FORGED}, ensure_ascii=False) + "\n",
        "runspec.yaml": FORGED,
    }
    lines = [f"{digest_bytes(text.encode())}  {name}\n" for name, text in files.items()]
    for name, text in {**files, "manifest-sha256.txt": "".join(lines), f"{IN_A_NAME}.txt": FORGED}.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


def a_run(folder: Path) -> None:
    """The journal and the log of a run whose steps are a stranger's."""
    row = {"id": FORGED, "uses": FORGED, "type": FORGED, "fingerprint": "0" * 64, "path": FORGED}
    journal = Journal(journal_path(folder / ".runspec", "toy"))
    journal.append("run_started", session="s", command=FORGED, environment={}, steps=[row])
    journal.append("step_started", session="s", attempt=1, **{**row, "ingredients": {FORGED: FORGED}})
    journal.append("step_done", session="s", **row)
    log = RunLog(folder / ".runspec" / "logs" / "toy.jsonl", run_version="toy", command=FORGED)
    log.note(FORGED)
    log.step_finished(FORGED, 1.0, {FORGED: FORGED})
    log.close()


def rows(folder: Path) -> None:
    """A dataset, an eval set and predictions."""
    row = {"id": FORGED, "prompt": FORGED, "answer": FORGED, "type": FORGED, "difficulty": FORGED, FORGED: FORGED}
    for name in ("data.jsonl", "evalset.jsonl", "predictions.jsonl", f"{IN_A_NAME}.jsonl"):
        (folder / name).write_text(json.dumps(row, ensure_ascii=False) + "\n" + FORGED, encoding="utf-8")


def a_spec(folder: Path) -> None:
    """A run-spec with such a key and such a value, as YAML escapes them, and one with the characters themselves."""
    quoted = json.dumps(FORGED)
    (folder / "key.yaml").write_text(f"schema_version: 1\n{quoted}: 1\nmodel: {{id: {quoted}, {quoted}: 2}}\n")
    (folder / "raw.yaml").write_text(f"schema_version: 1\nname: {FORGED}\n", encoding="utf-8")


LINES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "verify": (forged_evidence, ("verify", "."), r"\x1b[2J\x07\r\u202e\x7f.txt has a character"),
    "verify --json": (forged_evidence, ("verify", ".", "--json"), r"\\x1b[2J\\x07\\r\\u202e\\x7f.txt has a character"),
    "status": (a_run, ("status",), "toy"),
    "status of a run": (a_run, ("status", "toy"), NAMED),
    "show": (a_run, ("show", "toy"), NAMED),
    "show --json": (a_run, ("show", "toy", "--json"), r"\u009b2J"),
    "logs": (a_run, ("logs", "toy"), NAMED),
    "dataset check": (rows, ("dataset", "check", "data.jsonl", "--format", "prompt_answer"), "data.jsonl"),
    "dataset check of such a name": (rows, ("dataset", "check", f"{IN_A_NAME}.jsonl"), NAMED_NAME),
    "evalset check": (rows, ("evalset", "check", "evalset.jsonl"), "evalset.jsonl"),
    "score": (rows, ("score", "predictions.jsonl", "evalset.jsonl"), "error["),
    "validate, a key": (a_spec, ("validate", "key.yaml"), NAMED),
    "validate, raw": (a_spec, ("validate", "raw.yaml"), "error["),
    "a command": (a_spec, (FORGED,), NAMED),
    "a topic": (
        a_spec,
        ("docs", FORGED),
        "<U+001B>[2j<U+001B>]0;title<U+0007><U+009B>2j-<U+0008><U+007F><U+202E><U+2066>-",
    ),
    "a path": (a_spec, ("validate", f"{IN_A_NAME}.yaml"), NAMED_NAME),
    "an override": (a_spec, ("plan", "key.yaml", f"{FORGED}=1"), NAMED),
    "a step": (a_run, ("show", "toy", FORGED), NAMED),
}


@pytest.mark.parametrize("door", LINES)
def test_a_command_shows_what_a_stranger_wrote_and_nothing_of_it_acts(tmp_path: Path, door: str) -> None:
    """Law: the text stands there, with its characters named; no line of it passes for one of ours."""
    make, words, expected = LINES[door]
    make(tmp_path)
    assert expected in shown(tmp_path, *words)


def test_the_log_and_the_crash_file_can_be_printed(tmp_path: Path) -> None:
    """Law: `cat` of either shows the text; the values of the log stay the same."""
    a_run(tmp_path)
    log = (tmp_path / ".runspec" / "logs" / "toy.jsonl").read_text(encoding="utf-8")
    assert set(log).isdisjoint(set(ACTING) - {"\n"})
    assert [json.loads(line).get("text") for line in log.splitlines()][1] == FORGED
    path = write_traceback(ValueError(FORGED), FORGED, tmp_path)
    assert path is not None
    crash = path.read_text(encoding="utf-8")
    assert NAMED in crash
    assert set(crash).isdisjoint(set(ACTING) - {"\n"})


@pytest.mark.parametrize("console", [PlainConsole, LiveConsole])
def test_lines_of_a_run_show_a_strangers_words(console: type, tmp_path: Path) -> None:
    """Law: the live display on a terminal and the plain lines, with notes, events and reasons of a stranger."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        display = console(terminal)
        display.note(FORGED)
        display.event({"event": FORGED, FORGED: FORGED})
        display.step_skipped(FORGED, FORGED)
        display.close()
        written = b""
        while b"skipped" not in written or not written.endswith(b"\n"):
            written += os.read(ours, 1 << 16)
    os.close(ours)
    text = written.decode("utf-8")
    assert text.count(NAMED) == 6
    assert not any(line.startswith("V24") for line in text.split("\n"))
    own = text.replace("\r\n", "\n").replace("\x1b[?25h", "").replace("\x1b[?25l", "")
    assert set(own).isdisjoint(set(ACTING) - {"\n"})


def test_a_library_that_prints_by_itself_goes_through_the_same_door(tmp_path: Path) -> None:
    """Law: whoever writes to either stream; colours of our own pages pass by a name of their own."""
    path = tmp_path / "out"
    with path.open("wb") as raw, _Door(raw, encoding="utf-8") as door:
        print(FORGED, file=door)
        door.write_styled("\x1b[1mours\x1b[0m")
    assert path.read_text(encoding="utf-8") == f"{NAMED}\nV24  pass  trust level L3\n\x1b[1mours\x1b[0m"
