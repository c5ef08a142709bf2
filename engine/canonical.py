"""Canonical bytes of values, their digests, and atomic writes.

In: JSON values, files, folders. Out: bytes that are equal whenever the values
are (RFC 8785 in spirit: sorted keys, no spaces, UTF-8, no NaN), SHA-256 digests in hex, and files
that are complete or absent.

    >>> canonical_json({"b": 1, "a": [1.0, None]})
    b'{"a":[1.0,null],"b":1}'
    >>> digest_text("abc")[:12]
    'ba7816bf8f01'
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from engine.temporary import replacing

CHUNK_BYTES = 1 << 20
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# JSON objects: with keys to set, and to read only. Their values are whatever the schema of each says.
JsonObject: TypeAlias = dict[str, Any]
JsonMapping: TypeAlias = Mapping[str, Any]

# Readings of a clock or an allocator, not results: two runs of the same thing differ in these and in nothing else.
MEASURED_KEYS = frozenset(
    {
        "seconds",
        "milliseconds",
        "tokens_per_second",
        "input_wait_seconds",
        "input_wait_share",
        "warm_up",
        "profiled",
        "sessions",
        "step_seconds",
        "mfu",
        "device_bytes_in_use",
        "device_peak_bytes",
        "process_peak_bytes",
    }
)


_LEAVES = frozenset({str, int, float, bool, type(None)})

# The first bytes of compressed files -> what unpacks them.
COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"\x04\x22\x4d\x18": "lz4 -d",
}


# json.dumps makes an encoder for each call, which takes longer than a short row.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ROW = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def unpacker_of(head: bytes) -> str | None:
    """The program that unpacks a file with these first bytes; None where it is not compressed.

    >>> unpacker_of(b"\\x1f\\x8b\\x08"), unpacker_of(b"{")
    ('gunzip', None)
    """
    return next((program for magic, program in COMPRESSED.items() if head.startswith(magic)), None)


def canonical_json(value: object) -> bytes:
    """The one byte string for this value. Raises ValueError for NaN and infinities."""
    return _CANONICAL.encode(value).encode()


def pretty_json(value: object, *, ascii_only: bool = False) -> str:
    """The form people read: two spaces, the order given, a final newline. Raises ValueError for NaN.

    ``ascii_only`` writes the same values with escapes (``\\u00e9``).
    """
    return json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"


def finite_or_null(values: JsonMapping) -> JsonObject:
    """The object with null for every NaN and infinity, at any depth, and under ``non_finite`` what stood there, by path.

    JSON has no such numbers. Every figure that a computation can drive there goes through this before it is written.

    >>> finite_or_null({"loss": float("nan"), "norms": {"q": float("-inf"), "k": 1.5}})
    {'loss': None, 'norms': {'q': None, 'k': 1.5}, 'non_finite': {'loss': 'NaN', 'norms.q': '-Infinity'}}
    >>> finite_or_null({"loss": 2.5})
    {'loss': 2.5}
    """
    reasons: dict[str, str] = {}
    replaced: JsonObject = _without_non_finite(values, "", reasons)
    return replaced | {"non_finite": {**values.get("non_finite", {}), **reasons}} if reasons else replaced


def _without_non_finite(value: Any, path: str, reasons: dict[str, str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        reasons[path] = json.dumps(value)  # NaN, Infinity or -Infinity
        return None
    prefix = f"{path}." if path else ""
    if isinstance(value, Mapping):
        return {key: _without_non_finite(child, f"{prefix}{key}", reasons) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(child, f"{prefix}{index}", reasons) for index, child in enumerate(value)]
    return value


def readable(value: Any) -> Any:
    """The value with every text in it as UTF-8 can have it: a byte of a file's name that is not UTF-8 is written as ``\\xe9``.

    Linux hands any bytes on as a name, and Python reads such a byte as a lone surrogate, which no UTF-8 file can have.

    >>> print(readable(os.fsdecode(b"lat\\xe9.yaml")), readable({"a": ["\\ud800", "\u00e9"]}))
    lat\\xe9.yaml {'a': ['\\\\ud800', '\u00e9']}
    """
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(_escaped, value)
    if isinstance(value, Mapping):
        return {readable(key): readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def shell_words(words: Iterable[str]) -> str:
    """The words as a shell reads them; one with bytes that are not UTF-8 in bash's form for them.

    >>> print(shell_words(["a b", "it's lat\\udce9.yaml"]))
    'a b' $'it\\'s lat\\xe9.yaml'
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    escaped = readable(word.replace("\\", "\\\\").replace("'", "\\'"))
    return shlex.quote(word) if readable(word) == word else f"$'{escaped}'"


def digest_bytes(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_text(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in hex."""
    return digest_bytes(text.encode())


def digest_json(value: object) -> str:
    """SHA-256 of the canonical JSON of a value, in hex."""
    return digest_bytes(canonical_json(value))


def sealed(values: JsonMapping, seal: str) -> JsonObject:
    """The values and, under the key ``seal``, the digest of all of them: a file that can vouch for its own bytes.

    >>> sealed({"n": 1}, "sha256")["sha256"] == digest_json({"n": 1})
    True
    """
    return {**values, seal: digest_json(values)}


def unsealed(data: bytes, seal: str) -> JsonObject | None:
    """The values of :func:`sealed` JSON, or None where a byte is not what was written.

    The bytes must be those of :func:`pretty_json` or :func:`jsonl_bytes`: so even a changed space is noticed.

    >>> unsealed(pretty_json(sealed({"n": 1}, "sha256")).encode(), "sha256")
    {'n': 1}
    >>> unsealed(pretty_json(sealed({"n": 1}, "sha256") | {"n": 2}).encode(), "sha256")
    """
    try:
        whole = json.loads(data)
        if not isinstance(whole, dict) or data not in (pretty_json(whole).encode(), jsonl_bytes([whole])):
            return None
        values = {key: value for key, value in whole.items() if key != seal}
        return values if whole.get(seal) == digest_json(values) else None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, NaN, or nested too deeply to have been written here
        return None


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in chunks of 1 MiB."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def digest_tree(root: Path) -> dict[str, str]:
    """Relative POSIX path -> SHA-256 for every file below ``root``, in sorted order. Raises OSError."""
    return {path.relative_to(root).as_posix(): digest_file(path) for path in files_below(root)}


def files_below(root: Path) -> list[Path]:
    """Every file below ``root``, sorted. Raises OSError for a folder that cannot be read: what it holds would be left out."""
    if not root.is_dir():
        return []

    def refuse(error: OSError) -> None:
        raise error

    found = (Path(folder, name) for folder, _, names in os.walk(root, onerror=refuse) for name in names)
    return sorted(path for path in found if path.is_file())


def without_measurements(value: Any) -> Any:
    """The value with every key of :data:`MEASURED_KEYS` left out, at any depth.

    >>> without_measurements({"text": "4", "milliseconds": 17.5})
    {'text': '4'}
    """
    if value is None or isinstance(value, str | int | float):  # most values; Mapping asks longer
        return value
    if isinstance(value, Mapping):
        return {
            key: child
            if type(child) in _LEAVES
            else without_measurements(child)  # a call for each takes four times as long
            for key, child in value.items()
            if key not in MEASURED_KEYS
        }
    if isinstance(value, list):
        return [without_measurements(child) for child in value]
    return value


def digest_result(path: Path) -> str:
    """SHA-256 of a JSON or JSONL file's values without its measurements. Raises ValueError if it is neither."""
    return digest_result_bytes(path.name, path.read_bytes())


def digest_result_bytes(name: str, data: bytes) -> str:
    """The same for the bytes of a file of this name."""
    text = data.decode()
    lines = [text] if name.endswith(".json") else [line for line in text.split("\n") if line]
    return digest_of_results(map(json.loads, lines))


def digest_of_results(values: Iterable[object]) -> str:
    """The same for the values of such a file."""
    return digest_json([without_measurements(value) for value in values])


def jsonl_bytes(rows: Iterable[JsonMapping]) -> bytes:
    """One JSON object a line, keys in the order given, each line ended by a newline."""
    return "".join(_ROW.encode(row) + "\n" for row in rows).encode()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write the complete file or nothing (:func:`engine.temporary.replacing`).

    Raises OSError (disk full, no permission) and then leaves the previous file as it was.
    """
    with replacing(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)
