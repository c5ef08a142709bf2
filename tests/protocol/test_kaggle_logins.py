"""Credentials are looked for in the order of Kaggle's client; what contradicts or cannot be read is told, nothing is shown."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from engine.protocol.kaggle_logins import UnusableLogin, find_logins

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
    return {
        "HOME": str(home),
        "KAGGLE_API_TOKEN": "KGAT_of_the_environment_0",
        "KAGGLE_USERNAME": "ann",
        "KAGGLE_KEY": "k" * 32,
    }


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
        sources.append(str(find_logins(environ)[0]))
        for name in taken:
            environ.pop(name, None)
            (tmp_path / ".kaggle" / name).unlink(missing_ok=True)
    assert sources == ["KAGGLE_API_TOKEN", "~/.kaggle/access_token", "KAGGLE_USERNAME and KAGGLE_KEY",
                       str(tmp_path / ".kaggle" / "kaggle.json"), "~/.kaggle/credentials.json"]  # fmt: skip
    assert find_logins(environ) == []


def test_a_token_may_be_in_the_file_that_the_variable_names(tmp_path: Path) -> None:
    """As Kaggle's client takes it; an empty file is an error, not the next kind."""
    path = tmp_path / "token.txt"
    path.write_text(f"{TOKEN}\n")
    (login,) = find_logins({"HOME": str(tmp_path), "KAGGLE_API_TOKEN": str(path)})
    assert (login.secret, str(path) in login.source) == (TOKEN, True)
    path.write_text("\n")
    with pytest.raises(UnusableLogin, match="is empty"):
        find_logins({"HOME": str(tmp_path), "KAGGLE_API_TOKEN": str(path)})


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
    with pytest.raises(UnusableLogin, match=said):
        find_logins({"HOME": str(tmp_path), **environ})


@pytest.mark.parametrize("given", [{"KAGGLE_USERNAME": "ann"}, {"KAGGLE_KEY": KEY}])
def test_half_a_pair_is_told_unless_a_token_comes_before_it(given: dict[str, str], tmp_path: Path) -> None:
    """The login of the browser, which comes after it, is not taken in its place."""
    everything(tmp_path)
    (tmp_path / ".kaggle" / "kaggle.json").unlink()
    environ = {"HOME": str(tmp_path), **given}
    assert [login.kind for login in find_logins(environ)] == ["token", "oauth"]
    (tmp_path / ".kaggle" / "access_token").unlink()
    with pytest.raises(UnusableLogin, match=f"{next(iter(given))} is set, and KAGGLE_"):
        find_logins(environ)


@pytest.mark.parametrize("length", [300, 2000])
def test_a_token_longer_than_a_files_name_is_a_token(length: int, tmp_path: Path) -> None:
    """The system refuses to look for a file of that name."""
    (login,) = find_logins({"HOME": str(tmp_path), "KAGGLE_API_TOKEN": "x" * length})
    assert (login.source, login.secret) == ("KAGGLE_API_TOKEN", "x" * length)


def test_what_lies_in_a_files_place_is_told(tmp_path: Path) -> None:
    """A folder of that name, a file without an end, a file where the folder should be."""
    write(tmp_path, "access_token", "x" * 70_000)
    with pytest.raises(UnusableLogin, match="access_token is too large for credentials"):
        find_logins({"HOME": str(tmp_path)})
    (tmp_path / ".kaggle" / "access_token").unlink()
    (tmp_path / ".kaggle" / "access_token").mkdir()
    with pytest.raises(UnusableLogin, match="access_token cannot be read: Is a directory"):
        find_logins({"HOME": str(tmp_path)})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".kaggle").touch()
    assert find_logins({"HOME": str(tmp_path / "other")}) == []


def test_kaggle_json_is_looked_for_where_kaggles_client_does(tmp_path: Path) -> None:
    """In the folder that a variable names, in ~/.kaggle, in ~/.config/kaggle."""
    environ = {"HOME": str(tmp_path)}
    for folder, user in (("named", "ann"), (".kaggle", "bob"), (".config/kaggle", "cat")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kaggle.json").write_text(json.dumps({"username": user, "key": KEY}))
    assert find_logins(environ | {"KAGGLE_CONFIG_DIR": str(tmp_path / "named")})[0].user == "ann"
    assert find_logins(environ)[0].user == "bob"
    (tmp_path / ".kaggle" / "kaggle.json").unlink()
    assert find_logins(environ)[0].user == "cat"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"username": 7', "\udcff"])
def test_a_broken_file_is_told(text: str, tmp_path: Path) -> None:
    """By its name; an empty one says nothing, as with Kaggle's client."""
    path = write(tmp_path, "kaggle.json", "")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    if not text:
        assert find_logins({"HOME": str(tmp_path)}) == []
        return
    with pytest.raises(UnusableLogin, match=r"kaggle\.json"):
        find_logins({"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("minutes", "has_expired"), [(-600, True), (-10, True), (-1, True), (3, True), (20, False), (None, True)]
)
def test_the_end_of_an_access_token_is_judged_rightly(minutes: int | None, has_expired: bool, tmp_path: Path) -> None:
    """Kaggle's client uses one for half an hour after its end."""
    now = dt.datetime.now(dt.UTC)
    end = (now + dt.timedelta(minutes=minutes)).isoformat() if minutes is not None else ""
    values = {"refresh_token": "r" * 20, "access_token": "a" * 20, "access_token_expiration": end, "username": "ann"}
    write(tmp_path, "credentials.json", json.dumps(values))
    (login,) = find_logins({"HOME": str(tmp_path)})
    assert login.has_expired(now.timestamp()) is has_expired


def test_no_form_of_a_login_shows_its_secret(tmp_path: Path) -> None:
    """Neither its repr nor an error text that had it."""
    for login in find_logins(everything(tmp_path)):
        for secret in (login.secret, login.refresh):
            assert not secret or secret not in f"{login!r} {login} {login.hide(f'x {secret} y')}"
