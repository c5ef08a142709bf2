"""Where the hub's token is looked for, and what each failure of Kaggle's secret service is called."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from engine import doctor
from engine.commands.loading import load
from engine.commands.run import _take_token
from engine.kaggle.session import secrets
from engine.kaggle.session.secrets import find_token, kaggle_secret

TOKEN = "hub-token-of-nobody-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "DELAY_SECONDS", 0.0)


def test_the_secret_is_asked_for_as_kaggles_own_client_does(secret_service: Any) -> None:
    """Path, header and body of docker-python's client; the value comes back, its source is named."""
    secret_service.holds(TOKEN)
    found = find_token(secret_service.environ, in_kernel=False)
    assert (found.value, found.source, found.problem) == (TOKEN, "Kaggle's secret service", None)
    ((path, authorization, body),) = secret_service.requests
    assert path == "/requests/GetUserSecretByLabelRequest"
    assert authorization == f"Bearer {secret_service.environ['KAGGLE_USER_SECRETS_TOKEN']}"
    assert body == {"Label": "HF_TOKEN"}
    assert TOKEN not in repr(found)


def test_the_environment_comes_first_then_the_file_then_the_service(secret_service: Any, tmp_path: Path) -> None:
    """What is nearer wins, and then the service is not asked."""
    secret_service.holds(TOKEN)
    environ = {**secret_service.environ, "HF_HOME": str(tmp_path)}
    assert find_token({**environ, "HF_TOKEN": "mine"}, in_kernel=True).value == "mine"
    (tmp_path / "token").write_text("saved")
    saved = find_token(environ, in_kernel=True)
    assert (saved.value, saved.source, saved.problem) == (None, "saved by hf auth login", None)
    assert secret_service.requests == []


FAILURES = {
    "never made, or not attached": (200, {"errors": ["No user secrets exist for kernel id 7 and label HF_TOKEN."],
                                          "error": {"code": 5}, "wasSuccessful": False}, "G160"),
    "refused": (401, b"", "G161"), "forbidden": (403, b"", "G161"),
    "down": (500, b"", "G162"), "a page": (200, b"<html>", "G162"), "a list": (200, [], "G162"),
    "busy": (200, {"errors": ["Too many requests"], "error": {"code": 8}, "wasSuccessful": False}, "G162"),
    "busy too": (429, b"", "G162"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_has_its_own_code(secret_service: Any, case: str) -> None:
    """Absent, refused and down are told apart, with what to do; the answer itself is in no text."""
    status, answer, code = FAILURES[case]
    secret_service.answers = [(status, answer)]
    found = find_token(secret_service.environ, in_kernel=False)
    assert found.problem is not None
    assert (found.value, found.problem.code, found.problem.severity) == (None, code, "warning")
    assert "model: {kaggle:" in str(found.problem.hint)
    assert "kernel id" not in str(found.problem)


def test_a_secret_that_is_not_there_says_how_to_tell_never_made_from_not_attached(secret_service: Any) -> None:
    """The service's answer is the same for both, so the list in the editor decides."""
    problem = find_token(secret_service.environ, in_kernel=False).problem
    assert problem is not None
    assert "Is HF_TOKEN in the list? Tick it: it is not attached" in str(problem.hint)
    assert "Is it not in the list? Add it there: it was never made." in str(problem.hint)


def test_a_service_that_was_busy_is_asked_again(secret_service: Any) -> None:
    """Twice down, then there: three requests."""
    secret_service.answers = [(503, b""), (429, b""), (200, {"wasSuccessful": True, "result": {"secret": TOKEN}})]
    assert kaggle_secret("HF_TOKEN", secret_service.environ) == TOKEN
    assert len(secret_service.requests) == 3


def test_what_is_absent_is_asked_for_once(secret_service: Any) -> None:
    """A second question would have the same answer."""
    find_token(secret_service.environ, in_kernel=False)
    assert len(secret_service.requests) == 1


def test_a_service_that_never_answers_is_given_up(secret_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit of our own; Kaggle's client waits for 40 s."""
    monkeypatch.setattr(secrets, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(secrets, "ATTEMPTS", 1)
    secret_service.delay = 0.3
    problem = find_token(secret_service.environ, in_kernel=False).problem
    assert problem is not None
    assert problem.code == "G162"


def test_nobody_there_is_a_service_that_is_down() -> None:
    """A closed port; without the session's token nothing is asked at all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environ = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_URL_BASE": url}
    assert find_token({**environ, "KAGGLE_USER_SECRETS_TOKEN": "x" * 9}, in_kernel=False).problem.code == "G162"  # type: ignore[union-attr]
    assert find_token(environ, in_kernel=False).problem.code == "G161"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["SecretNotFoundError", "NotebookAccessError", "TimeoutException"])
def test_colab_is_asked_in_the_notebooks_own_process(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its three errors has its cure; from a child nothing is asked."""
    userdata = types.ModuleType("google.colab.userdata")

    def get(label: str) -> str:
        raise type(kind, (Exception,), {})(label)

    userdata.get = get  # type: ignore[attr-defined]
    for name, module in (("google", types.ModuleType("google")), ("google.colab", types.ModuleType("google.colab"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)
    found = find_token({"COLAB_RELEASE_TAG": "release"}, in_kernel=True)
    assert found.problem is not None
    assert (found.problem.code, kind in found.problem.message) == ("G164", True)
    userdata.get = lambda label: TOKEN  # type: ignore[attr-defined]
    assert find_token({"COLAB_RELEASE_TAG": "release"}, in_kernel=True).value == TOKEN
    assert find_token({"COLAB_RELEASE_TAG": "release"}, in_kernel=False).problem.code == "G163"  # type: ignore[union-attr]


def test_doctor_asks_the_same_service(secret_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the secret is attached, or what the service's failure means; never the value."""
    for name, value in {**secret_service.environ, "HF_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    absent = next(row for row in doctor.examine(tmp_path, devices=False) if row.what == "hf_token")
    assert (absent.state, absent.facts) == ("warning", {"code": "G160"})
    assert "it was never made, or is not attached" in absent.says
    secret_service.holds(TOKEN)
    found = next(row for row in doctor.examine(tmp_path, devices=False) if row.what == "hf_token")
    assert (found.state, "attached to this notebook" in found.says) == ("ok", True)
    assert TOKEN not in str(found.as_json())


NEEDS = {"hub": ("dataset: {hub: acme/rows}", 1), "nothing of the hub": ("dataset: quickstart-reasoning", 0)}


@pytest.mark.parametrize("case", NEEDS)
def test_a_run_on_kaggle_takes_the_token_for_its_processes(
    case: str, secret_service: Any, tmp_path: Path, tiny: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: asked for once, where something comes from the hub and no token is set; then in the environment of the trainer."""
    dataset, n_requests = NEEDS[case]
    for name, value in {**secret_service.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": ""}.items():
        monkeypatch.setenv(name, value)
    secret_service.holds(TOKEN)
    (tmp_path / "evalsets").mkdir()
    shutil.copy(repository / "evalsets" / "quickstart.jsonl", tmp_path / "evalsets")
    (tmp_path / "tiny.yaml").write_text(tiny.replace("dataset: quickstart-reasoning", dataset))
    spec, _ = load(str(tmp_path / "tiny.yaml"))
    for _ in range(2):
        _take_token(spec)
    assert len(secret_service.requests) == n_requests
    assert os.environ["HF_TOKEN"] == TOKEN * n_requests


def test_a_run_without_the_secret_warns_and_goes_on(
    secret_service: Any,
    tmp_path: Path,
    tiny: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A public repository needs none: what is missing is said, and the hub decides."""
    for name, value in {**secret_service.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": ""}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "evalsets").mkdir()
    shutil.copy(repository / "evalsets" / "quickstart.jsonl", tmp_path / "evalsets")
    (tmp_path / "tiny.yaml").write_text(tiny.replace("dataset: quickstart-reasoning", "dataset: {hub: acme/rows}"))
    _take_token(load(str(tmp_path / "tiny.yaml"))[0])
    assert capsys.readouterr().err.startswith("warning[G160]: ")
    assert os.environ["HF_TOKEN"] == ""
