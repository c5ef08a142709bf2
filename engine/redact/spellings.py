"""The secrets of this process's environment, and every way in which a program may have spelled one.

In: the environment. Out: :class:`Secret` values, each with the bytes to look for.

Two searches find a spelling. The literal one looks for its bytes as they are. The squeezed one looks for its letters and
digits in the text's letters and digits: what separates them (a line break, an indent, a quote, ``:``, ``%``, NUL) does not
count, so that one form stands for all its layouts. A squeezed form is looked for only where it cannot come about by chance.

    >>> squeeze(b"4b:65:79\\\\n  31")
    b'4b657931'
    >>> [secret.name for secret in secrets_in({"MY_TOKEN": "abcdefgh1", "TOKENIZER": "google/gemma-3-270m", "KEY": "short"})]
    ['MY_TOKEN']
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import shlex
import string
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

MIN_SECRET_CHARS = 8  # shorter values ("1", "true", "admin") would mask half of every log
MIN_LETTERS = 20  # of a squeezed form without digits: words of a sentence, joined, must not make it

_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|KEY(?!BOARD|MAP)|PASSWO?R?D|PASSPHRASE|(?<!APPLICATION_)CREDENTIAL|_(?:PASS|PAT|AUTH)$",
    re.IGNORECASE,
)
_KEPT = (string.ascii_letters + string.digits).encode()
_DROPPED = bytes(set(range(256)) - set(_KEPT))
_ROT13 = str.maketrans(
    string.ascii_letters,
    "".join(letters[13:] + letters[:13] for letters in (string.ascii_lowercase, string.ascii_uppercase)),
)
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}  # the full-width look-alikes of ASCII


@dataclass(frozen=True, slots=True)
class Secret:
    """One value: the variable that holds it, and its spellings."""

    name: str
    literal: tuple[bytes, ...]  # all of them, longest first
    weak: tuple[bytes, ...]  # those of them that no squeezed form stands for
    squeezed: tuple[bytes, ...]


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret: it says token, secret, key, password or the like."""
    return _NAME.search(name) is not None


def values_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Value that must never be shown -> its variable. A secret of several lines counts line by line too."""
    values: dict[str, str] = {}
    for name, value in environ.items():
        if is_secret_name(name):
            for part in (value, *value.splitlines()):
                if len(part.strip()) >= MIN_SECRET_CHARS:
                    values.setdefault(part.strip(), name)
    return values


def secrets_in(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """The secrets of an environment, the longest first: of two where one begins with the other, the longer goes whole."""
    return _secrets(tuple(sorted(values_of(environ).items(), key=lambda pair: (-len(pair[0]), pair))))


@functools.lru_cache(maxsize=8)
def _secrets(values: tuple[tuple[str, str], ...]) -> tuple[Secret, ...]:
    return tuple(_secret(value, name) for value, name in values)


def _secret(value: str, name: str) -> Secret:
    forms = {form for form in spellings(value) if len(form) >= MIN_SECRET_CHARS}
    strong = {form: squeezed for form in forms if is_strong(squeezed := squeeze(form))}
    weak = forms - strong.keys()
    return Secret(name, _longest_first(forms), _longest_first(weak), _longest_first(set(strong.values())))


def _longest_first(forms: set[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def without_escaped_space(data: bytes) -> bytes:
    r"""The same length, with ``\n``, ``\r`` and ``\t`` of JSON and of source code as spaces: their letters are no text."""
    return data.replace(b"\\n", b"  ").replace(b"\\r", b"  ").replace(b"\\t", b"  ") if b"\\" in data else data


def squeeze(data: bytes) -> bytes:
    """Its ASCII letters and digits."""
    return without_escaped_space(data).translate(None, _DROPPED)


def squeezed_positions(data: bytes) -> list[int]:
    """Where each byte of ``squeeze(data)`` stands in the data."""
    return [position for position, byte in enumerate(without_escaped_space(data)) if byte in _KEPT]


def is_strong(squeezed: bytes) -> bool:
    """Whether letters and digits in this order are no accident."""
    text = squeezed.decode()
    if len(text) < MIN_SECRET_CHARS:
        return False
    if text.isdigit():
        return len(text) >= 16
    return any(map(str.isdigit, text)) or len(text) >= MIN_LETTERS


def spellings(value: str) -> Iterator[bytes]:
    """Every way in which a value may be spelled."""
    for text in _texts(value):
        yield text.encode("utf-8", "surrogatepass")
    raw = value.encode("utf-8", "surrogateescape")
    yield raw  # of a value that is not UTF-8: the bytes themselves
    for data in (raw, raw[::-1], value.encode("utf-16-le", "surrogatepass"), base64.b64encode(raw)):
        yield from _base64_forms(data)
    for data in (raw, raw[::-1], value.encode("utf-16-le", "surrogatepass")):
        yield data.hex().encode()
        yield data.hex().upper().encode()
    yield from _base85_forms(raw)
    yield from _aligned(raw, base64.b32encode, 5)
    yield from (form.lower() for form in _aligned(raw, base64.b32encode, 5))
    for pattern in ("x%02x", "x%02X", "0x%02x", "0x%02X", "u%04x", "u%04X", "%d", "%03o", "%o", "{:08b}"):
        # of \x41, 0x41, \u0041, &#65; and lists of numbers, only these count in the squeezed search
        parts = [pattern.format(byte) if "{" in pattern else pattern % byte for byte in raw]
        yield "".join(parts).encode()


def _texts(value: str) -> Iterator[str]:
    yield from (value, value[::-1], value.upper(), value.lower(), value.translate(_ROT13))
    quoted = [urllib.parse.quote(value, safe=safe, errors="surrogateescape") for safe in ("", "/", "/:")]
    quoted.append(quoted[0].replace("%20", "+"))
    quoted += [re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in quoted]
    yield from quoted
    yield from (text.replace("%", "%25") for text in quoted)  # quoted twice
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield once.replace("/", "\\/")
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]
    yield repr(value.encode("utf-8", "surrogateescape"))[2:-1]
    yield html.escape(value)
    yield html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    yield shlex.quote(value).strip("'")
    yield value.translate(_WIDE)


def _aligned(data: bytes, encode: Callable[[bytes], bytes], bits: int) -> Iterator[bytes]:
    """The characters of a code of so many bits that depend on the data alone, at each alignment in a longer text.

    In base64 three bytes become four characters, so data that starts 1 byte into a group shares its first two
    characters with the text before it (2 bytes: three characters); the tail is cut the same way.
    """
    for offset in range({6: 3, 5: 5}[bits]):
        first, end = -(-offset * 8 // bits), (offset + len(data)) * 8 // bits
        yield encode(b"\0" * offset + data)[first:end]


def _base64_forms(data: bytes) -> Iterator[bytes]:
    for form in _aligned(data, base64.b64encode, 6):
        yield form
        yield form.replace(b"+", b"-").replace(b"/", b"_")


def _base85_forms(data: bytes) -> Iterator[bytes]:
    """Whole groups of four bytes, at each alignment."""
    for skipped in range(4):
        whole = data[skipped : skipped + (len(data) - skipped) // 4 * 4]
        yield base64.b85encode(whole)
        yield base64.a85encode(whole)
