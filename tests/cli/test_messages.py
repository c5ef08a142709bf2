"""What a person is told who names the wrong thing: no evidence, a pipe, a compressed file, a script with Windows line ends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import version_1

REPOSITORY = Path(__file__).parent.parent.parent
EVIDENCE = version_1.EVIDENCE


def _said(done: Any) -> str:
    return str(done.err.split("\nmore:")[0].rstrip("\n"))


def test_verify_of_a_folder_without_evidence(runspec: Any, project: Path) -> None:
    """An empty folder, another folder, and the parent of evidence are told so, with where it is: 2, not 22 failed checks."""
    (project / "empty").mkdir()
    done = runspec("verify", "empty")
    advice = "\n   = help: name an evidence folder or a package; `runspec run SPEC` makes evidence"
    assert (done.code, done.out, _said(done)) == (2, "", f"error[X322]: no evidence here: empty is empty{advice}")
    (project / "empty" / "README").write_text("hello")
    has_none = "has no manifest-sha256.txt and no run_manifest.json"
    assert _said(runspec("verify", "empty")) == f"error[X322]: no evidence here: empty {has_none}{advice}"
    parent = EVIDENCE.parent
    assert _said(runspec("verify", str(parent))) == (
        f"error[X322]: no evidence here: {parent} {has_none}\n"
        f"   = help: it is in a folder below: runspec verify {EVIDENCE}"
    )


def test_verify_of_a_file_of_the_evidence(runspec: Any, project: Path) -> None:
    """It is no package: said in one line, with the folder that it lies in; not 20 lines about an incomplete zip."""
    file = EVIDENCE / "run_manifest.json"
    done = runspec("verify", str(file))
    assert (done.code, done.out) == (2, "")
    assert _said(done) == (
        f"error[X322]: no evidence here: {file} is a file and no package\n"
        f"   = help: verify the folder that it is in: runspec verify {EVIDENCE}"
    )
    (project / "rows.jsonl").write_text("{}\n")
    assert runspec("verify", "rows.jsonl").code == 2


def test_damaged_evidence_is_still_evidence(runspec: Any, project: Path) -> None:
    """One of its files is enough to be checked, and to fail (5)."""
    (project / "damaged").mkdir()
    (project / "damaged" / "run_manifest.json").write_bytes((EVIDENCE / "run_manifest.json").read_bytes())
    assert runspec("verify", "damaged").code == 5
    (project / "half.zip").write_bytes(b"PK\x03\x04")
    (project / "turned.zip").write_bytes(b"\0K\x03\x04")
    assert runspec("verify", "turned.zip").code == 5
    assert runspec("verify", "half.zip").code == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "pipe"], "error[V00]: pipe cannot be read: it is a pipe or a device, not a file"),
        (["score", "pipe", "pipe"], "error[K102]: cannot read pipe: nobody writes into this pipe"),
        (["dataset", "check", "pipe"], "error[D102]: pipe is a pipe or a device, not a file"),
        (["evalset", "check", "pipe"], "error[D202]: pipe is a pipe or a device, not a file"),
        (["validate", "pipe"], "error[Y003]: this is a pipe or a device, not a file"),
        (["verify", "/dev/zero"], "error[V00]: /dev/zero cannot be read: it is a pipe or a device, not a file"),
        (["score", "pipe", "/dev/zero"], "error[K102]: cannot read /dev/zero: it is a device, not a file"),
        (["dataset", "check", "/dev/zero"], "error[D102]: /dev/zero is a pipe or a device, not a file"),
    ],
    ids=lambda value: value[0] + value[-1] if isinstance(value, list) else "",
)
def test_a_pipe_that_nobody_writes_into_does_not_hang(
    runspec: Any, project: Path, words: list[str], message: str
) -> None:
    """A named pipe, or a device without an end, is refused at once."""
    os.mkfifo(project / "pipe")
    done = runspec(*words)
    assert (done.code, done.err.split("\n")[0]) == (2, message)


def test_predictions_from_a_pipe_with_a_writer_are_read(project: Path) -> None:
    """`runspec score <(zcat …)`: what bash makes of it is a pipe that somebody writes into."""
    command = (
        f'"{sys.executable}" -m engine score <(sleep 0.3; cat {EVIDENCE}/predictions.jsonl) {EVIDENCE}/eval_set.jsonl'
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert "n_scored                  100\n" in done.stdout


def test_compressed_files_and_byte_order_marks_are_named(runspec: Any, project: Path) -> None:
    """What unpacks the file is the hint; a mark is told as one, in both kinds of readers."""
    data = (EVIDENCE / "predictions.jsonl").read_bytes()
    (project / "p.jsonl.gz").write_bytes(gzip.compress(data))
    (project / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + data)
    eval_set = str(EVIDENCE / "eval_set.jsonl")
    assert _said(runspec("score", "p.jsonl.gz", eval_set)) == (
        "error[K102]: p.jsonl.gz is compressed\n  --> p.jsonl.gz\n   = help: unpack it: gunzip p.jsonl.gz"
    )
    assert _said(runspec("score", "bom.jsonl", eval_set)) == (
        "error[K102]: bom.jsonl begins with a byte order mark (the three bytes EF BB BF)\n  --> bom.jsonl\n   = help: save it as UTF-8 without BOM"
    )
    assert _said(runspec("dataset", "check", "p.jsonl.gz")) == (
        "error[D116]: p.jsonl.gz is compressed\n  --> p.jsonl.gz\n   = help: unpack it: gunzip p.jsonl.gz"
    )


def test_predictions_of_another_kind_are_one_finding(runspec: Any, project: Path) -> None:
    """As for rows; and a broken line is told by its own place, not in the parser's words."""
    (project / "p.csv").write_text("id,text\n" + "a,b\n" * 30)
    (project / "p.json").write_text(json.dumps([{"id": "a", "text": "b"}] * 30, indent=2))
    (project / "p.jsonl").write_text('{"id": "a", "text": }\n')
    eval_set = str(EVIDENCE / "eval_set.jsonl")
    assert _said(runspec("score", "p.csv", eval_set)).startswith(
        "error[K102]: p.csv is CSV, not JSONL (columns: id, text)"
    )
    assert _said(runspec("score", "p.json", eval_set)).startswith(
        "error[K102]: p.json is one JSON list over several lines"
    )
    assert _said(runspec("score", "p.jsonl", eval_set)).startswith(
        "error[K103]: not a JSON object: unexpected `}` at column 21\n  --> p.jsonl:1"
    )


@pytest.mark.parametrize(
    "words",
    [["validate", "x.yaml", "train.num_train_steps=5\r"], ["validate", "x.yaml\r"], ["status\r"], ["run", "x.yaml", "--quiet\r"],
     ["init", "--dir", "here\r"]],
)  # fmt: skip
def test_a_carriage_return_at_the_end_of_a_word_is_named(runspec: Any, project: Path, words: list[str]) -> None:
    """A script with Windows line ends: the cause and the cure, not an unknown file or an override of two lines."""
    done = runspec(*words)
    assert done.code == 2
    assert _said(done) == (
        f'error[X323]: "{words[-1].rstrip()}" is followed by a carriage return\n'
        "   = help: the script that typed it has Windows line ends; save it with LF alone: sed -i 's/\\r$//' SCRIPT"
    )


def test_many_names_are_not_all_listed(runspec: Any, project: Path) -> None:
    """Twelve and a count."""
    said = _said(runspec("init", "zzzzzz"))
    assert said.startswith('error[U110]: there is no preset or example "zzzzzz"\n   = help: there are: chat, cluster, ')
    assert said.endswith(" and 4 more")
    assert said.count(",") == 11
