"""The cells' own machinery, without a kernel: what ends a cell is text, and the outcome says how."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunFailed
from engine.kaggle.session.cells import CellStopped, Made, NotebookSession, with_errors
from engine.kaggle.session.edits import TITLES
from engine.kaggle.session.gated import is_gated

MADE = Made("runspecs/a.yaml", "a_v1", "e" * 64, dict.fromkeys(TITLES, "0" * 64), needs_token=False)


@pytest.fixture
def session(tmp_path: Path) -> NotebookSession:
    """One on a stand-in for Kaggle."""
    return NotebookSession(tmp_path, MADE, {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "RUNSPEC_KAGGLE_ROOT": str(tmp_path / "k"),
                                    "RUNSPEC_SCRATCH": str(tmp_path / "s")})  # fmt: skip


def _raises(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


ENDS = {
    "ours": (RunFailed("G157", "too little", hint="more"), "error[G157]: too little\n   = help: more"),
    "the system's": (
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        "error[G171]: /x: No space left on device",
    ),
    "a fault": (KeyError("x"), "error[G172]: internal error at test_cells.py:"),
    "interrupted": (KeyboardInterrupt(), "error[G167]: interrupted\n   = help: run the cell again: it resumes"),
}


@pytest.mark.parametrize("case", ENDS)
def test_whatever_ends_a_cell_is_text(case: str, session: NotebookSession, tmp_path: Path) -> None:
    """Law: IPython is given plain lines for any exception; what failed leaves an outcome."""
    error, says = ENDS[case]
    with pytest.raises(CellStopped) as caught:
        with_errors(session, "setup", _raises(error))
    text = "\n".join(caught.value._render_traceback_())
    assert text.startswith(says)
    assert "Traceback" not in text
    outcome = tmp_path / "k" / "working" / "outcome.json"
    assert outcome.exists() == (case != "interrupted")
    if outcome.exists():
        assert json.loads(outcome.read_text())["state"] == "failed"


@pytest.mark.parametrize(("gated", "code"), [("manual", "G174"), (False, None)])
def test_a_gated_model_without_a_token_ends_in_the_first_cell(
    gated: object, code: str | None, secret_service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Law: before anything is installed; an open one goes on with a warning. A hub that cannot be asked decides nothing."""
    secret_service.pages["/api/models/acme/gemma"] = {"id": "acme/gemma", "gated": gated}
    environ = {**secret_service.environ, "HF_ENDPOINT": secret_service.url, "HF_HOME": str(tmp_path), "RUNSPEC_KAGGLE_ROOT": str(tmp_path),
               "RUNSPEC_SCRATCH": str(tmp_path)}  # fmt: skip
    made = dataclasses.replace(MADE, needs_token=True, hub_model="acme/gemma")
    if code is None:
        NotebookSession(tmp_path, made, environ).begin()
    else:
        with pytest.raises(CellStopped, match=code) as caught:
            NotebookSession(tmp_path, made, environ).begin()
        assert "Add-ons > Secrets" in "\n".join(caught.value._render_traceback_())
    assert "warning[G160]" in capsys.readouterr().out
    assert not is_gated("acme/gemma", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert not is_gated("acme/other", environ)


def test_cells_need_those_before_them(session: NotebookSession) -> None:
    """G158 for the configuration without the setup, for a step and the summary without the configuration."""
    for call in (lambda: session.configure("", [], None), lambda: session.stage("train"), session.summary):
        with pytest.raises(CellStopped, match="G158"):
            call()


def test_the_childs_environment(session: NotebookSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that travelled comes first, lines are plain, and the image's libtpu does not win over the one that was installed."""
    session._environ |= {"PYTHONPATH": "/kaggle/lib", "TPU_LIBRARY_PATH": "/image/libtpu.so"}
    assert session._child_environ()["TPU_LIBRARY_PATH"] == "/image/libtpu.so"
    session._python = tmp_path / "python"
    environ = session._child_environ()
    assert environ["PYTHONPATH"] == f"{tmp_path}:/kaggle/lib"
    assert (environ["TERM"], environ["NO_COLOR"], environ["PYTHONUNBUFFERED"]) == ("dumb", "1", "1")
    assert "TPU_LIBRARY_PATH" not in environ
    assert not {"HF_TOKEN", "RUNSPEC_KAGGLE_NONCE"} & set(environ)
