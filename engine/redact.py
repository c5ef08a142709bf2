"""The one place where secrets are taken out of text.

In: text or JSON values from anywhere, a child process's standard error included. Out: the same with every secret
replaced by ``***``.

A secret is the value (8 characters or more) of an environment variable whose name contains TOKEN, SECRET, KEY or
PASSWORD, and anything that looks like a Hugging Face or Kaggle token. It is matched literally and in the forms in
which libraries print it: base64 (at each of the three alignments), URL-quoted, JSON-escaped.

    >>> redact("login with hf_" + "x" * 34)
    'login with ***'
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"
MIN_SECRET_CHARS = 8  # shorter values ("1", "true", "admin") would mask half of every log

_SECRET_NAME = re.compile(r"TOKEN|SECRET|KEY|PASSWORD", re.IGNORECASE)
_TOKEN_SHAPES = (r"hf_[A-Za-z0-9]{16,}", r"KGAT_[A-Za-z0-9_-]{8,}")


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values that must never be shown. A secret of several lines counts line by line too."""
    values: set[str] = set()
    for name, value in environ.items():
        if _SECRET_NAME.search(name):
            values.update(part.strip() for part in (value, *value.splitlines()))
    return tuple(sorted(value for value in values if len(value) >= MIN_SECRET_CHARS))


def _base64_forms(secret: str) -> Iterator[str]:
    """The characters of base64 that depend on the secret alone, at each alignment in a longer text.

    Three bytes become four characters, so a secret that starts 1 byte into a group shares its first two
    characters with the text before it (2 bytes: three characters); the tail is cut the same way.
    """
    data = secret.encode("utf-8", "surrogateescape")
    for offset, shared in ((0, 0), (1, 2), (2, 3)):
        end = (offset + len(data)) * 8 // 6
        standard = base64.b64encode(b"\0" * offset + data).decode()[shared:end]
        yield standard
        yield standard.replace("+", "-").replace("/", "_")


def _forms(secret: str) -> Iterator[str]:
    """Every way in which the secret may be spelled."""
    yield secret
    quoted = [urllib.parse.quote(secret, safe=safe, errors="surrogateescape") for safe in ("", "/", "/:")]
    quoted.append(quoted[0].replace("%20", "+"))
    yield from quoted
    yield from (re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in quoted)
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
    yield repr(secret)[1:-1]
    yield from _base64_forms(secret)


@functools.lru_cache(maxsize=8)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_SECRET_CHARS}
    # Longest first: of two secrets where one begins with the other, the longer one must go completely.
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join([*map(re.escape, ordered), *_TOKEN_SHAPES]))


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text without secrets. Repeats until nothing matches: a cut can join two halves of a secret."""
    pattern = _pattern(secrets_of(os.environ if environ is None else environ))
    while True:
        # The mask is shorter than any secret, so each round shortens the text and the loop ends.
        cleaned = pattern.sub(MASK, text)
        if cleaned == text:
            return cleaned
        text = cleaned


def redact_value(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """The same JSON value with every string in it, keys included, redacted."""
    if isinstance(value, str):
        return redact(value, environ)
    if isinstance(value, Mapping):
        return {redact(str(key), environ): redact_value(item, environ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item, environ) for item in value]
    return value
