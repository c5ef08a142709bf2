"""The generated notebook, executed by a real Jupyter kernel, with stand-ins for Kaggle's folders, variables and secret service."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.kaggle.notebook import NotebookRequest
from engine.kaggle.session.edits import TITLES

KAGGLE = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}
SECRET = "hub-token-of-nobody-0123456789"
CODE = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
# The outcome after the first pass, kept for the test.
KEEP = {
    **CODE,
    "id": "keep",
    "source": "import shutil; _ = shutil.copy(session.place.output / 'outcome.json', 'first_outcome.json')",
}


def _twice(notebook: dict[str, Any]) -> dict[str, Any]:
    """All cells, then all cells again, with one of them changed by hand."""
    again = [{**copy.deepcopy(cell), "id": f"again-{cell['id']}"} for cell in notebook["cells"]]
    score = next(cell for cell in again if cell["id"] == "again-score")
    score["source"] = [*score["source"], "  # by hand"]
    return {**notebook, "cells": [*notebook["cells"], KEEP, *again]}


def _verified(package: Path) -> bool:
    return main(["verify", str(package), "--quiet"]) == 0


@pytest.mark.timeout(600)  # on two cores that others use, too; 30 s alone
def test_from_the_first_cell_to_a_verified_zip_and_all_nine_again(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], tiny: str, tmp_path: Path
) -> None:
    """Law: nine cells, one package that verifies; a second pass harms nothing, and a cell changed by hand is recorded."""
    made, document = notebook_of(tiny)
    done = execute(_twice(document), KAGGLE)
    assert done.errors == []
    working = tmp_path / "kaggle" / "working"
    (package,) = working.glob("*.zip")
    assert _verified(package)
    assert (working / "evidence" / "run_manifest.json").is_file()
    first, last = (json.loads(path.read_text()) for path in (tmp_path / "first_outcome.json", working / "outcome.json"))
    assert first == {
        "schema_version": 1, "exit_code": 0, "state": "complete", "run_version": "tiny_v1", "engine_sha256": made.engine_sha256,
        "notebook_sha256_of_cells": made.cells_sha256, "edited_cells": [], "package": package.name, "next": None,
    }  # fmt: skip
    assert last["edited_cells"] == ["score"]
    assert last["notebook_sha256_of_cells"] != made.cells_sha256
    assert {**last, "edited_cells": [], "notebook_sha256_of_cells": made.cells_sha256} == first
    _is_readable(done)


def _is_readable(done: Any) -> None:
    """What each cell says, plainly: no escape sequence, the result, what was done already."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.text)
    first, again = done.texts[:9], done.texts[10:]
    assert "runspec 0." in first[0]
    assert "in the image as pinned" in first[1]
    assert "5 of 5 steps to run" in first[2]
    assert "no step of the kind smoke_run" in first[4]
    assert "train step 3/3" in first[5]
    assert "RESULT SUMMARY" in first[8]
    assert "nothing to run, every step is done" in again[2]
    assert "this cell is not the generated one any more" in again[7]
    assert all("train step 3/3" not in text for text in again)


def test_the_token_goes_from_the_secret_service_to_the_runs_and_nowhere_else(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], tiny: str, secret_service: Any, tmp_path: Path
) -> None:
    """Law: asked for by the first cell, in the environment of every child, in no output and no file of the session."""
    secret_service.holds(SECRET)
    text = tiny.replace("dataset: quickstart-reasoning", "dataset: {hub: acme/rows}")
    made, document = notebook_of(text)
    seen = {**CODE, "id": "seen", "source": f"print(session._child_environ()['HF_TOKEN'] == {SECRET[::-1]!r}[::-1])"}
    shown = {**CODE, "id": "shown", "source": "session._python = __import__('sys').executable; session._run('docs', '--no-such-option'); "
             "print(session._token)"}  # fmt: skip
    engine = next(cell for cell in document["cells"] if cell["id"] == "engine")
    done = execute({**document, "cells": [engine, seen, shown]}, {**KAGGLE, **secret_service.environ})
    assert done.errors == []
    assert "HF_TOKEN  found: Kaggle's secret service" in done.texts[0]
    assert done.texts[1].strip() == "True"
    assert len(secret_service.requests) == 1
    hidden = [SECRET, secret_service.environ["KAGGLE_USER_SECRETS_TOKEN"]]
    assert [word for word in hidden if word in done.text + made.text] == []
    written = [
        path for path in [*(tmp_path / "scratch").rglob("*"), *(tmp_path / "kaggle").rglob("*")] if path.is_file()
    ]
    assert len(written) > 300
    assert [path for path in written if any(word.encode() in path.read_bytes() for word in hidden)] == []


USERDATA = "def get(label):\n    assert label == 'HF_TOKEN'\n    return {!r}\n"


def test_in_colab_the_token_is_read_in_the_cell_and_handed_on(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], tiny: str, tmp_path: Path
) -> None:
    """Law: the same file; Colab's own module answers in the kernel, and the child has the token in its environment."""
    (tmp_path / "colab" / "google" / "colab").mkdir(parents=True)
    (tmp_path / "colab" / "google" / "colab" / "userdata.py").write_text(USERDATA.format(SECRET))
    _, document = notebook_of(tiny.replace("dataset: quickstart-reasoning", "dataset: {hub: acme/rows}"))
    engine = next(cell for cell in document["cells"] if cell["id"] == "engine")
    ask = "import os, sys; sys.exit(os.environ['HF_TOKEN'] != " + repr(SECRET[::-1]) + "[::-1])"
    seen = {**CODE, "id": "seen", "source": "import subprocess, sys\n"
            f"print(subprocess.run([sys.executable, '-c', {ask!r}], env=session._child_environ()).returncode)"}  # fmt: skip
    done = execute(
        {**document, "cells": [engine, seen]}, {"COLAB_RELEASE_TAG": "release", "PYTHONPATH": str(tmp_path / "colab")}
    )
    assert done.errors == []
    assert "HF_TOKEN  found: Colab's secrets" in done.texts[0]
    assert f"results in {tmp_path / 'runspec_output'}" in done.texts[0]
    assert done.texts[1].strip() == "0"
    assert SECRET not in done.text


@pytest.mark.slow
@pytest.mark.parametrize("environ", [{"COLAB_RELEASE_TAG": "release"}, {}], ids=["colab", "jupyter"])
def test_the_same_file_runs_elsewhere(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], tiny: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Law: on Colab and on a plain Jupyter the results are in ./runspec_output, and verify."""
    _, document = notebook_of(tiny)
    assert execute(document, environ).errors == []
    (package,) = (tmp_path / "runspec_output").glob("*.zip")
    assert _verified(package)


def test_a_cell_that_fails_says_so_without_a_traceback_and_leaves_an_outcome(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], tiny: str, tmp_path: Path
) -> None:
    """Law: the engine's own words, once; outcome.json says failed; the cells after it say what they need."""
    _, document = notebook_of(tiny)
    cells = {cell["id"]: cell for cell in document["cells"] if cell["cell_type"] == "code"}
    cells["configuration"]["source"] = [
        line.replace("num_rows: 200", "num_rowz: 200") for line in cells["configuration"]["source"]
    ]
    done = execute(
        {**document, "cells": [cells[name] for name in ("engine", "setup", "configuration", "dataset")]}, KAGGLE
    )
    assert done.errors == ["CellStopped", "CellStopped"]
    assert 'did you mean "num_rows"?' in done.texts[2]
    assert "error[G165]: the run-spec cannot run here" in done.texts[2]
    assert "error[G158]: this cell needs the configuration" in done.texts[3]
    assert "Traceback" not in done.text
    assert "\x1b" not in done.text
    outcome = json.loads((tmp_path / "kaggle" / "working" / "outcome.json").read_text())
    assert (outcome["state"], outcome["edited_cells"]) == ("failed", ["configuration"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_quickstart_from_the_first_cell_to_a_verified_zip(
    notebook_of: Callable[..., Any], execute: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    """Law: the shipped quickstart, smoke run included, in a real kernel: at most 60 kB of output a training hour."""
    made, document = notebook_of((repository / "runspecs" / "quickstart.yaml").read_text(encoding="utf-8"))
    done = execute(document, KAGGLE)
    assert done.errors == []
    assert len(done.texts) == len(TITLES)
    assert len(done.text.encode()) < 60_000
    assert "\x1b" not in done.text
    (package,) = (tmp_path / "kaggle" / "working").glob("*.zip")
    assert _verified(package)
    assert "primary_score: " in done.texts[8]
    assert (
        json.loads((tmp_path / "kaggle" / "working" / "outcome.json").read_text())["notebook_sha256_of_cells"]
        == made.cells_sha256
    )


def _in_two_sessions(text: str) -> str:
    """The quickstart without its smoke run: a minute of training or more, beyond the limit of the first session."""
    return "".join(line for line in text.splitlines(keepends=True) if "smoke_run" not in line)


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_a_run_of_two_sessions_is_one_run(
    notebook_of: Callable[..., Any],
    execute: Callable[..., Any],
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Law: the first session ends by itself, the next one has nothing but its attached output, and the evidence is a chain of both."""
    text = _in_two_sessions((repository / "runspecs" / "quickstart.yaml").read_text(encoding="utf-8"))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    done = execute(notebook_of(text, NotebookRequest(session_limit="45s"))[1], KAGGLE, first)
    assert done.errors == [], done.text
    outcome = json.loads((first / "kaggle" / "working" / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["next"]["left"][0]["id"]) == ("incomplete", 7, "train"), (
        done.text
    )
    assert done.texts[6].strip() == "left for the next session"
    shutil.copytree(first / "kaggle" / "working", second / "kaggle" / "input" / "notebooks" / "acme" / "run")
    done = execute(notebook_of(text, NotebookRequest(earlier="acme/run"))[1], KAGGLE, second)
    assert done.errors == [], done.text
    assert "resumed from the checkpoint of train step" in done.texts[5]
    working = second / "kaggle" / "working"
    assert (json.loads((working / "outcome.json").read_text())["state"], (working / "session").exists()) == (
        "complete",
        False,
    )
    (package,) = working.glob("*.zip")
    capsys.readouterr()
    assert main(["verify", str(package), "--json"]) == 0
    (chain,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["id"] == "V17"]
    assert (chain["status"], chain["detail"]) == ("pass", "2 sessions, train steps 1 to 400")
