"""What a person reads where Kaggle does not give a model: 401, 403 and 404 are three errors, and no secret is in any of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunspecError
from engine.protocol.kaggle_models import parse_kaggle_model
from engine.trainer.hub.kaggle import fetch_kaggle
from tests.kaggle.platform.platform import Platform


def test_without_credentials_it_says_the_three_ways(online: Any) -> None:
    """M411, exit 8, with the page of the licence."""
    del online.environ["KAGGLE_API_TOKEN"]
    error = online.error()
    assert (error.code, error.exit_code) == ("M411", 8)
    assert "there are no credentials on this machine" in str(error)
    hint = str(error.diagnostics[0].hint)
    assert "export KAGGLE_API_TOKEN=…" in hint
    assert "https://www.kaggle.com/models/acme/tiny-gemma" in hint


def test_a_refused_token_is_named_by_its_place(online: Any) -> None:
    """M411: mistyped, expired or revoked; the next kind is not tried behind one's back."""
    online.environ["KAGGLE_API_TOKEN"] = "KGAT_" + "0" * 32
    error = online.error()
    assert error.code == "M411"
    assert "the credentials from KAGGLE_API_TOKEN (HTTP 401)" in str(error)


def test_a_licence_that_is_not_accepted_names_its_page(online: Any, kaggle: Platform) -> None:
    """M412: the one thing that a person does by hand."""
    name = "acme/tiny-gemma/transformers/gated/1"
    kaggle.add_model(name, {"config.json": b"{}", "model.safetensors": b"", "tokenizer.json": b""}, gated=True)
    error = online.error(name)
    assert error.code == "M412"
    assert "open https://www.kaggle.com/models/acme/tiny-gemma, signed in to that account" in str(error)


def test_a_version_that_does_not_exist_names_the_newest(online: Any) -> None:
    """M413 with the name to write."""
    error = online.error("acme/tiny-gemma/transformers/micro/9")
    assert (error.code, error.exit_code) == ("M413", 2)
    assert "Kaggle has no version 9 of acme/tiny-gemma/transformers/micro" in str(error)
    assert "its newest is 3: kaggle: acme/tiny-gemma/transformers/micro/3" in str(error)


def test_a_model_that_does_not_exist_names_the_page(online: Any) -> None:
    """M413."""
    error = online.error("acme/tiny-gemma/transformers/huge/1")
    assert error.code == "M413"
    assert "compare it with the variations and versions at https://www.kaggle.com/models/acme/tiny-gemma" in str(error)


@pytest.mark.parametrize(
    ("failure", "code"),
    [("rate_limited_bare", "M405"), ("server_error", "M405"), ("connection_cut", "M403"), ("html_with_200", "M405"),
     ("truncated_json", "M405"), ("error_with_200", "M412"), ("redirect_loop", "M405"), ("page_token_repeats", "M405"),
     ("link_expired", "M412")],
)  # fmt: skip
def test_what_goes_on_is_given_up(online: Any, kaggle: Platform, failure: str, code: str) -> None:
    """After four waits, with a code, a hint and no traceback; the next fetch goes on."""
    on = ("ListModelInstanceVersionFiles",) if failure == "page_token_repeats" else ()
    kaggle.fail(failure, on=on)
    assert online.error().code == code
    kaggle.heal()
    assert online.fetch().place == "cache"


@pytest.mark.parametrize("kind", ["file", "access_token", "key", "kaggle.json", "oauth", "oauth expired"])
def test_every_kind_of_credentials_is_taken(online: Any, kaggle: Platform, kind: str) -> None:
    """In Kaggle's own order; an access token that has expired is renewed before it is used."""
    home = Path(online.environ["HOME"]) / ".kaggle"
    home.mkdir(parents=True)
    token = online.environ.pop("KAGGLE_API_TOKEN")
    if kind == "file":
        (home / "mine").write_text(f"{token}\n")
        online.environ["KAGGLE_API_TOKEN"] = str(home / "mine")
    elif kind == "access_token":
        (home / "access_token").write_text(f"{token}\n")
    elif kind == "key":
        online.environ |= {"KAGGLE_USERNAME": kaggle.user, "KAGGLE_KEY": kaggle.key}
    elif kind == "kaggle.json":
        (home / "kaggle.json").write_text(json.dumps({"username": kaggle.user, "key": kaggle.key}))
    else:
        seconds = -600 if kind == "oauth expired" else 12 * 3600
        (home / "credentials.json").write_text(json.dumps(kaggle.oauth(seconds=seconds)))
    assert online.fetch().place == "cache"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"KAGGLE_USERNAME": "someone"}, "KAGGLE_USERNAME is set, and KAGGLE_KEY is not"),
        ({"kaggle.json": "{"}, "is not the JSON that Kaggle wrote"),
        ({"kaggle.json": '{"username": "a", "key": "b"}', "KAGGLE_USERNAME": "c"}, "together they are nobody's"),
        ({"credentials.json": "[]"}, "is not the JSON that Kaggle wrote"),
        ({"access_token": "x" * 70_000}, "is too large for credentials"),
    ],
)
def test_credentials_that_cannot_be_used_are_named(online: Any, given: dict[str, str], says: str) -> None:
    """M415, before anything is sent."""
    home = Path(online.environ["HOME"]) / ".kaggle"
    home.mkdir(parents=True)
    del online.environ["KAGGLE_API_TOKEN"]
    for name, text in given.items():
        if name.startswith("KAGGLE"):
            online.environ[name] = text
        else:
            (home / name).write_text(text)
    error = online.error()
    assert error.code == "M415"
    assert says in str(error)


def test_two_users_are_told_apart(online: Any, kaggle: Platform) -> None:
    """M415: a token of one and a key of another; whose token it is only Kaggle knows."""
    home = Path(online.environ["HOME"]) / ".kaggle"
    home.mkdir(parents=True)
    (home / "kaggle.json").write_text(json.dumps({"username": "other", "key": "0" * 32}))
    error = online.error()
    assert error.code == "M415"
    said = (
        f"the credentials here are of different users: {kaggle.user} (KAGGLE_API_TOKEN) and other ({home}/kaggle.json)"
    )
    assert said in str(error)
    (home / "kaggle.json").write_text(json.dumps({"username": kaggle.user, "key": "0" * 32}))
    assert online.fetch().place == "cache"


def test_credentials_go_to_kaggle_or_to_this_machine(online: Any) -> None:
    """M416 for any other address."""
    online.environ["RUNSPEC_KAGGLE_API"] = "https://kaggle.example/api/v1"
    assert online.error().code == "M416"


def test_no_secret_is_in_an_error_or_an_event(
    online: Any, kaggle: Platform, everything: Callable[[BaseException], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in frames that a reporter could print: neither the token nor an address with a signature."""
    _ = [monkeypatch.setenv(*pair) for pair in online.environ.items()]  # a loop's variable would be in this frame
    kaggle.fail("corrupt_file")
    with pytest.raises(RunspecError) as caught:
        fetch_kaggle(parse_kaggle_model("acme/tiny-gemma/transformers/micro/3"))
    kaggle.heal()
    online.fetch()
    text = everything(caught.value) + json.dumps(online.events)
    basic = base64.b64encode(f"{kaggle.user}:{kaggle.key}".encode()).decode()
    assert [secret for secret in (*kaggle.issued_secrets, basic, "sig=") if secret in text] == []
