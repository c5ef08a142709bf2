"""Credentials are looked for in the order of Kaggle's client; what contradicts is told, what is missing has three ways, nothing is shown."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.kaggle.driver.api.credentials import choose, find_logins
from tests.kaggle.platform.platform import Platform

TOKEN, KEY = "KGAT_0123456789abcdef0123", "0123456789abcdef0123456789abcdef"


def write(home: Path, name: str, text: str) -> Path:
    path = home / ".kaggle" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def everything(home: Path) -> dict[str, str]:
    """All kinds at once, of one user."""
    write(home, "access_token", TOKEN)
    write(home, "kaggle.json", json.dumps({"username": "ann", "key": KEY}))
    write(
        home, "credentials.json", json.dumps({"refresh_token": "r" * 20, "username": "ann", "access_token": "a" * 20})
    )
    return {"KAGGLE_API_TOKEN": "KGAT_of_the_environment_0", "KAGGLE_USERNAME": "ann", "KAGGLE_KEY": "k" * 32}


def test_the_order_is_that_of_kaggles_client(tmp_path: Path) -> None:
    """Token of the environment, token in a file, key of the environment, key in a file, the browser's login."""
    environ = everything(tmp_path)
    sources = []
    for taken in (
        ("KAGGLE_API_TOKEN",),
        ("access_token",),
        ("KAGGLE_USERNAME", "KAGGLE_KEY"),
        ("kaggle.json",),
        ("credentials.json",),
    ):
        sources.append(str(choose(find_logins(environ, tmp_path))))
        for name in taken:
            environ.pop(name, None)
            (tmp_path / ".kaggle" / name).unlink(missing_ok=True)
    assert sources == ["KAGGLE_API_TOKEN", "~/.kaggle/access_token", "KAGGLE_USERNAME and KAGGLE_KEY",
                       str(tmp_path / ".kaggle" / "kaggle.json"), "~/.kaggle/credentials.json"]  # fmt: skip
    with pytest.raises(InputInvalid) as missing:
        choose(find_logins(environ, tmp_path))
    assert missing.value.code == "G204"
    assert (
        str(missing.value)
        == """\
error[G204]: there are no credentials for Kaggle on this machine
   = help: one of:
           a token: on kaggle.com, Settings > API > Generate New Token; then export KAGGLE_API_TOKEN=…, or put it into ~/.kaggle/access_token
           a key: Settings > API > Create Legacy API Key; put the kaggle.json that it gives into ~/.kaggle/
           in the browser: pip install kaggle, then kaggle auth login"""
    )


def test_a_token_may_be_in_the_file_that_the_variable_names(tmp_path: Path) -> None:
    """As Kaggle's client takes it; an empty file is an error, not the next kind."""
    path = tmp_path / "token.txt"
    path.write_text(f"{TOKEN}\n")
    (login,) = find_logins({"KAGGLE_API_TOKEN": str(path)}, tmp_path)
    assert (login.secret, str(path) in login.source) == (TOKEN, True)
    path.write_text("\n")
    with pytest.raises(InputInvalid, match="is empty"):
        find_logins({"KAGGLE_API_TOKEN": str(path)}, tmp_path)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KAGGLE_USERNAME": "bob"}, "KAGGLE_USERNAME says bob"),
        ({"KAGGLE_KEY": "another" * 5}, "another key"),
    ],
)
def test_two_halves_of_two_people_are_not_one_login(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    """Kaggle's client mixes them."""
    write(tmp_path, "kaggle.json", json.dumps({"username": "ann", "key": KEY}))
    with pytest.raises(InputInvalid, match=said) as refused:
        find_logins(environ, tmp_path)
    assert refused.value.code == "G203"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"username": 7', "\udcff"])
def test_a_broken_file_is_told(text: str, tmp_path: Path) -> None:
    """By its name; an empty one says nothing, as with Kaggle's client."""
    path = write(tmp_path, "kaggle.json", "")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    if not text:
        assert find_logins({}, tmp_path) == []
        return
    with pytest.raises(InputInvalid, match=r"kaggle\.json") as refused:
        find_logins({}, tmp_path)
    assert refused.value.code == "G203"


@pytest.mark.parametrize(
    ("minutes", "has_expired"), [(-600, True), (-10, True), (-1, True), (3, True), (20, False), (None, True)]
)
def test_the_end_of_an_access_token_is_judged_rightly(minutes: int | None, has_expired: bool, tmp_path: Path) -> None:
    """Kaggle's client uses one for half an hour after its end."""
    now = dt.datetime.now(dt.UTC)
    end = (now + dt.timedelta(minutes=minutes)).isoformat() if minutes is not None else ""
    values = {"refresh_token": "r" * 20, "access_token": "a" * 20, "access_token_expiration": end, "username": "ann"}
    write(tmp_path, "credentials.json", json.dumps(values))
    (login,) = find_logins({}, tmp_path)
    assert login.has_expired(now.timestamp()) is has_expired


def test_no_form_of_a_login_shows_its_secret(tmp_path: Path) -> None:
    """Neither its repr nor an error text that had it."""
    for login in find_logins(everything(tmp_path), tmp_path):
        for secret in (login.secret, login.refresh):
            assert not secret or secret not in f"{login!r} {login} {login.hide(f'x {secret} y')}"


def code_of(done: Any) -> str:
    return "" if done.code == 0 else str(done.document["diagnostics"][0]["code"])


@pytest.fixture
def home(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any credentials yet."""
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (tmp_path / "home").mkdir(exist_ok=True)
    return tmp_path / "home"


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
