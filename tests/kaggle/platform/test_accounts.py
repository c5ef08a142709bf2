"""Who may ask: the kinds of credential, their ends, and what they are worth."""

from __future__ import annotations

import base64

import pytest

from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform


def _basic(user: str, key: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def test_three_kinds_of_credential(kaggle: Platform, api: Plain) -> None:
    """A token, a user name with its key, an OAuth token: each may push."""
    for number, kind in enumerate([f"Bearer {kaggle.token}", _basic("someone", kaggle.key)]):
        api.authorization = kind
        assert api.push().json["versionNumber"] == number + 1
    api.authorization = f"Bearer {kaggle.oauth()['access_token']}"
    assert api.push().json["versionNumber"] == 3


@pytest.mark.parametrize(
    "kind", ["Bearer nothing", "Basic !", _basic("someone", "wrong"), _basic("nobody", "x"), "Digest x", ""]
)
def test_anything_else_is_unauthenticated(api: Plain, kind: str) -> None:
    """401 with the API's shape of an error, for no credential too."""
    api.authorization = kind or None
    answer = api.push()
    assert (answer.status, answer.json) == (401, {"code": 401, "message": "Unauthenticated"})


def test_whose_token_it_is(kaggle: Platform, api: Plain) -> None:
    """The answer of IntrospectToken, and of one that was never given out."""
    assert api.call("IntrospectToken", token=kaggle.token).json == {"active": True, "username": "someone", "userId": 1}
    assert api.call("IntrospectToken", token="nothing").json == {"active": False}
    api.authorization = "Bearer nothing"
    assert api.call("IntrospectToken", token="nothing").status == 401


def test_a_token_ends_in_the_middle(kaggle: Platform, api: Plain) -> None:
    """An OAuth token works until its time, then it is 401; the refresh token gives another."""
    login = kaggle.oauth(seconds=600)
    api.authorization = f"Bearer {login['access_token']}"
    assert api.push().status == 200
    kaggle.clock.advance(601)
    assert api.push().status == 401
    api.authorization = None
    renewed = api.call("GenerateAccessToken", refreshToken=login["refresh_token"], expirationDuration="43200s").json
    assert (renewed["expiresIn"], renewed["userName"]) == (43200, "someone")
    api.authorization = f"Bearer {renewed['token']}"
    assert api.push().status == 200
    assert api.call("GenerateAccessToken", refreshToken="nothing").status == 401


def test_a_token_that_expired_ten_minutes_ago(kaggle: Platform, api: Plain) -> None:
    """What credentials.json has then: refused, while its refresh token is still good."""
    login = kaggle.oauth(seconds=-600)
    api.authorization = f"Bearer {login['access_token']}"
    assert api.push().status == 401
    api.authorization = None
    assert api.call("GenerateAccessToken", refreshToken=login["refresh_token"]).status == 200
