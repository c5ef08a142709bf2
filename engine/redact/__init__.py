"""The one place where secrets are found, and where they are taken out of text.

In: text, JSON values or bytes from anywhere, a child process's standard error included. Out: the same with every secret
replaced by ``***`` (screen, log, the recorded command), or the list of what was found (evidence folder, package).

A secret is the value (8 characters or more) of an environment variable whose name says so, in every spelling of
:mod:`engine.redact.spellings`, and anything that has a shape of :mod:`engine.redact.shapes`, as it is or in a spelling of :mod:`engine.redact.hidden`. Both lists
stand there once.

    >>> redact("login with hf_" + "aB3" * 11)
    'login with ***'
    >>> find_secrets({"notes.txt": b"61626364 65666768 in hex"}, {"MY_KEY": "abcdefgh"})
    [('notes.txt:1', 'the value of MY_KEY')]
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.redact.hidden import find_hidden
from engine.redact.shapes import Match, find_all, find_shapes
from engine.redact.spellings import (
    MIN_SECRET_CHARS,
    Secret,
    is_secret_name,
    secrets_in,
    squeeze,
    squeezed_positions,
    values_of,
)

MASK = "***"
LARGE = 1 << 16  # bytes: less is searched at once
MOST_REMEMBERED = 64
_NO_ENVIRONMENT: Mapping[str, str] = {}


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values that must never be shown."""
    return tuple(sorted(values_of(environ)))


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text without secrets. Repeats until nothing matches: a cut can join two halves of a secret."""
    if len(text) < MIN_SECRET_CHARS:
        return text
    secrets = secrets_in(os.environ if environ is None else environ)
    data = text.encode("utf-8", "surrogatepass")
    while True:
        # The mask is shorter than any secret, so each round shortens the text and the loop ends.
        cleaned = _masked(data, secrets)
        if len(cleaned) >= len(data):
            return data.decode("utf-8", "surrogatepass") if data != text.encode("utf-8", "surrogatepass") else text
        data = cleaned


def redact_value(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """The same JSON value with every string in it, keys included, redacted."""
    if isinstance(value, str):
        return redact(value, environ)
    if isinstance(value, Mapping):
        return {redact(str(key), environ): redact_value(item, environ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item, environ) for item in value]
    return value


def find_secrets(files: Mapping[str, bytes], environ: Mapping[str, str] = _NO_ENVIRONMENT) -> list[tuple[str, str]]:
    """(file:line, kind) of every place, in order, never the secret; a name that is one counts too."""
    secrets = secrets_in(environ)
    found: list[tuple[str, str]] = []
    for name, data in sorted(files.items()):
        as_bytes = name.encode("utf-8", "surrogatepass")
        found += [(f"the name {redact(name, environ)}", kind) for _, kind in _places(as_bytes, secrets)]
        found += [(f"{redact(name, environ)}:{line}", kind) for line, kind in _places(data, secrets)]
    return found


def _places(data: bytes, secrets: tuple[Secret, ...]) -> list[tuple[int, str]]:
    """(line, kind), each once, in order."""
    matches = [*_shaped(data).of_each_place(), *_find_values(data, secrets, all_forms=False)]
    places: dict[tuple[int, str], None] = {}
    line, counted = 1, 0
    for start, _, kind in sorted(matches):
        line += data.count(b"\n", counted, start)
        counted = start
        places[line, kind] = None
    return list(places)


def _masked(data: bytes, secrets: tuple[Secret, ...]) -> bytes:
    """Every match replaced; those that touch or overlap become one mask."""
    parts, done = [], 0
    shaped = _shaped(data)
    matches = sorted([*_find_values(data, secrets, all_forms=True), *shaped.plain, *shaped.hidden])
    for start, end in _merged(matches):
        if end - start > len(MASK):
            parts += [data[done:start], MASK.encode()]
            done = end
    return b"".join([*parts, data[done:]])


def _merged(matches: list[Match]) -> Iterator[tuple[int, int]]:
    start, end = -1, -1
    for first, last, _ in matches:
        if first >= end:
            if end > start:
                yield start, end
            start, end = first, last
        end = max(end, last)
    if end > start:
        yield start, end


class _Shaped(NamedTuple):
    """Where anything has the shape of a secret: plainly, and in another spelling."""

    plain: Sequence[Match]
    hidden: Sequence[Match]

    def of_each_place(self) -> Iterator[Match]:
        """Without the hidden ones that overlap with a plain one: it is the same secret, with what stands around it."""
        yield from self.plain
        spans = list(_merged(sorted(self.plain)))
        for start, end, kind in self.hidden:
            index = bisect_left(spans, (start,))
            touched = spans[max(0, index - 1) : index + 1]
            if not any(first < end and start < last for first, last in touched):
                yield start, end, kind


def _shaped(data: bytes) -> _Shaped:
    """A run writes its evidence, packs and verifies it: what large files held is remembered by their digest."""
    if len(data) < LARGE:
        return _Shaped(tuple(find_shapes(data)), tuple(find_hidden(data)))
    digest = hashlib.sha256(data).digest()
    if digest not in _found_in:
        if len(_found_in) >= MOST_REMEMBERED:
            _found_in.clear()
        _found_in[digest] = _Shaped(tuple(find_shapes(data)), tuple(find_hidden(data)))
    return _found_in[digest]


_found_in: dict[bytes, _Shaped] = {}


def _find_values(data: bytes, secrets: tuple[Secret, ...], *, all_forms: bool) -> Iterator[Match]:
    """Where a secret of the environment stands in any spelling."""
    squeezed = squeeze(data)
    positions: list[int] = []
    for secret in secrets:
        kind = f"the value of {secret.name}"
        for form in secret.literal if all_forms else secret.weak:
            yield from ((start, start + len(form), kind) for start in find_all(data, form))
        for form in secret.squeezed:
            for start in find_all(squeezed, form):
                positions = positions or squeezed_positions(data)
                yield positions[start], positions[start + len(form) - 1] + 1, kind


__all__ = ["MASK", "find_secrets", "is_secret_name", "redact", "redact_value", "secrets_of"]
