"""The driver names the credentials that it takes; what contradicts is told, what is missing has three ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.kaggle.driver.api.credentials import choose
from tests.kaggle.platform.platform import Platform


def write(home: Path, name: str, text: str) -> Path:
    path = home / ".kaggle" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def code_of(done: Any) -> str:
    return "" if done.code == 0 else str(done.document["diagnostics"][0]["code"])


@pytest.fixture
def home(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any credentials yet."""
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (tmp_path / "home").mkdir(exist_ok=True)
    return tmp_path / "home"


def test_without_credentials_there_are_three_ways() -> None:
    """G204."""
    with pytest.raises(InputInvalid) as missing:
        choose([])
    assert (
        str(missing.value)
        == """\
error[G204]: there are no credentials for Kaggle on this machine
   = help: one of:
           a token: on kaggle.com, Settings > API > Generate New Token; then export KAGGLE_API_TOKEN=…, or put it into ~/.kaggle/access_token
           a key: Settings > API > Create Legacy API Key; put the kaggle.json that it gives into ~/.kaggle/
           in the browser: pip install kaggle, then kaggle auth login"""
    )


@pytest.mark.parametrize("name", ["kaggle.json", "credentials.json"])
def test_a_file_that_is_not_kaggles_is_told(home: Path, runspec: Callable[..., Any], name: str) -> None:
    """G203, with its path."""
    write(home, name, "[]")
    done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json")
    assert (done.code, code_of(done)) == (2, "G203")
    assert f"{home}/.kaggle/{name} is not the JSON that Kaggle wrote" in done.document["diagnostics"][0]["message"]


def test_the_source_is_named_on_the_screen(home: Path, runspec: Callable[..., Any], kaggle: Platform) -> None:
    """And the address, where it is not Kaggle's."""
    write(home, "kaggle.json", json.dumps({"username": "someone", "key": kaggle.key}))
    said = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu").err
    assert (
        f"Kaggle: someone, credentials from {home}/.kaggle/kaggle.json, at {kaggle.api_url} instead of Kaggle" in said
    )


def test_an_expired_login_of_the_browser_is_renewed(home: Path, runspec: Callable[..., Any], kaggle: Platform) -> None:
    """Ten minutes after its end; the file stays as `kaggle auth login` wrote it."""
    path = write(home, "credentials.json", json.dumps(kaggle.oauth(seconds=-600)))
    before = path.read_bytes()
    assert runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu").code == 0
    assert kaggle.requests[0].operation == "GenerateAccessToken"
    assert path.read_bytes() == before


def test_a_login_that_ends_while_a_session_runs_is_renewed(
    home: Path, run: Callable[..., Any], kaggle: Platform
) -> None:
    """A session is longer than a token."""
    from tests.kaggle.driver.stand_ins import log_of
    from tests.kaggle.platform.session.scripted import Script

    write(home, "credentials.json", json.dumps(kaggle.oauth(seconds=1200)))
    kaggle.script(Script(files={}, log=log_of, running_seconds=3600, state="ERROR"))
    assert code_of(run("--json")) == "G240"
    assert [one.status for one in kaggle.requests if one.operation == "GetKernelSessionStatus"].count(401) == 0


def test_a_login_that_is_not_renewed_is_told(home: Path, run: Callable[..., Any], kaggle: Platform) -> None:
    """With the command that makes a new one."""
    write(home, "credentials.json", json.dumps({**kaggle.oauth(seconds=-600), "refresh_token": "gone" * 5}))
    done = run("--json")
    assert (done.code, code_of(done)) == (8, "G205")
    assert done.document["diagnostics"][0]["hint"] == "log in again: kaggle auth login"


def test_two_users_are_told_apart(
    home: Path, runspec: Callable[..., Any], kaggle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of one and a key of another: whose notebook it is says which counts."""
    kaggle.add_user("other")
    monkeypatch.setenv("KAGGLE_API_TOKEN", kaggle.token)
    write(home, "kaggle.json", json.dumps({"username": "other", "key": kaggle.world.accounts.key("other")}))
    words = ("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json")
    refused = runspec(*words)
    assert (refused.code, code_of(refused)) == (2, "G203")
    assert runspec(*words, "--notebook", "other/my-toy").document["owner"] == "other"


def test_a_refused_token_is_not_followed_by_the_next_kind(
    home: Path, runspec: Callable[..., Any], kaggle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kaggle's client falls silently to the key, which may be another person's."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_00000000000000000000")
    write(home, "kaggle.json", json.dumps({"username": "someone", "key": kaggle.key}))
    done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json")
    assert (done.code, code_of(done)) == (8, "G205")
    assert "KAGGLE_API_TOKEN" in done.document["diagnostics"][0]["message"]


def test_credentials_never_go_to_another_machine(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable for tests takes this machine alone."""
    monkeypatch.setenv("RUNSPEC_KAGGLE_API", "https://kaggle.example/api/v1")
    done = run("--json")
    assert (done.code, code_of(done)) == (2, "G201")
