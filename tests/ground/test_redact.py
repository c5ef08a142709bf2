"""Secrets are taken out of text, in every form in which a library prints them."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.redact import MASK, redact, redact_value, secrets_of

SECRET = 'p/w+d "x"\\ü-9876543210'
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
long_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40).filter(
    lambda text: len(text.strip()) >= 8 and text == text.strip()
)


@given(before=texts, secret=long_texts, after=texts)
def test_no_secret_survives_in_any_text(before, secret, after):
    """Whatever stands around it, the secret itself is gone, and so are its quoted and base64 forms."""
    environ = {"SOME_TOKEN": secret}
    for form in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert secret not in redact(before + form + after, environ)
    encoded = base64.b64encode((before + secret + after).encode()).decode()
    cleaned = redact(encoded, environ)
    assert MASK in cleaned


@given(text=texts)
def test_text_without_secrets_is_left_alone(text):
    """Where there is no secret nothing changes."""
    assert redact(text, {"HOME": "/somewhere/long", "TOKEN": "short"}) == text


@given(before=st.binary(max_size=8), after=st.binary(max_size=8))
def test_base64_is_found_at_every_alignment(before, after):
    """The secret inside a longer base64 text cannot be read back."""
    encoded = base64.b64encode(before + SECRET.encode() + after).decode()
    cleaned = redact(encoded, {"API_KEY": SECRET})
    middle = base64.b64encode(SECRET.encode()).decode()[8:-8]
    assert middle not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote(SECRET, safe="").lower(),
        urllib.parse.quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_each_form_is_masked(form):
    """Raw, URL-quoted (both cases), form-quoted, JSON-escaped and base64 forms all become the mask."""
    environ = {"MY_PASSWORD": SECRET}
    assert redact(f"say {form} loud", environ).startswith(f"say {MASK}")


@pytest.mark.parametrize("token", ["hf_" + "aB3" * 11, "KGAT_" + "0123456789abcdef"])
def test_well_known_token_shapes_are_masked_without_being_in_the_environment(token):
    """A Hugging Face or Kaggle token is masked wherever it comes from."""
    assert redact(f"Bearer {token}, ok", {}) == f"Bearer {MASK}, ok"


def test_which_variables_hold_secrets():
    """Names that say token, secret, key or password count, from 8 characters on; each line by itself too."""
    environ = {"HF_TOKEN": "a" * 8, "my_secret": "b" * 9, "KEY": "short", "PATH": "/usr/bin:/bin",
               "PEM_KEY": "first-line-of-it\nsecond-line-of-it"}  # fmt: skip
    assert secrets_of(environ) == tuple(
        sorted(["a" * 8, "b" * 9, "first-line-of-it\nsecond-line-of-it", "first-line-of-it", "second-line-of-it"])
    )


def test_the_longer_of_two_secrets_goes_whole():
    """A secret that begins with another one leaves no tail behind."""
    environ = {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"}
    assert redact("x abcdefghijkl y", environ) == f"x {MASK} y"


def test_a_mask_cannot_join_two_halves_into_a_secret():
    """Cutting one secret out may bring another one together; that one goes too."""
    environ = {"A_TOKEN": "********", "B_TOKEN": "12345678"}
    assert "********" not in redact("****12345678****", environ)


def test_values_are_masked_deeply():
    """Strings inside lists and mappings, keys included, are masked; numbers stay numbers."""
    environ = {"A_KEY": "abcdefgh"}
    value = {"abcdefgh": ["x abcdefgh", 3, None, {"k": ("abcdefgh",)}]}
    assert redact_value(value, environ) == {MASK: [f"x {MASK}", 3, None, {"k": [MASK]}]}
