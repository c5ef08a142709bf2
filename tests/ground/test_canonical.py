"""Canonical bytes: equal values give equal bytes, and a digest stands for all of what it was made of, and nothing else."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.canonical import (
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    digest_result,
    digest_text,
    digest_tree,
    files_below,
    finite_or_null,
    jsonl_bytes,
    pretty_json,
    sealed,
    unpacker_of,
    unsealed,
    without_measurements,
)

MIB = 1 << 20
# FIPS 180-4, and the digest of nothing.
SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA256_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

TEXT = st.text(max_size=5)
KEYS = TEXT.filter(lambda key: key not in MEASURED)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
# What metrics.jsonl, train_report.json and predictions.jsonl hold of a clock or of an allocator.
MEASURED = {
    "seconds": 0.31, "tokens_per_second": 9041.5, "input_wait_seconds": 0.002, "input_wait_share": 0.01, "mfu": 0.41,
    "step_seconds": {"p50": 0.3, "n_train_steps": 7}, "warm_up": True, "profiled": True, "milliseconds": 17.5,
    "device_bytes_in_use": 5_000_000, "device_peak_bytes": 6_000_000, "process_peak_bytes": 7_000_000,
}  # fmt: skip


def reversed_keys(value: Any) -> Any:
    """An equal value whose objects were filled the other way round."""
    if isinstance(value, dict):
        return {key: reversed_keys(child) for key, child in reversed(value.items())}
    return [reversed_keys(child) for child in value] if isinstance(value, list) else value


def measured(value: Any) -> Any:
    """The same with measurements in every object."""
    if isinstance(value, dict):
        return {**MEASURED, **{key: measured(child) for key, child in value.items()}}
    return [measured(child) for child in value] if isinstance(value, list) else value


@given(VALUES)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    """The order in which objects were filled does not show, and the bytes hold the value."""
    assert canonical_json(value) == canonical_json(reversed_keys(value))
    assert json.loads(canonical_json(value)) == value
    assert digest_json(value) == hashlib.sha256(canonical_json(value)).hexdigest()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": [1, 2.5], "a": {"d": None, "c": True}}, b'{"a":{"c":true,"d":null},"b":[1,2.5]}'),
        ({"ä": "中\u2028"}, b'{"\xc3\xa4":"\xe4\xb8\xad\xe2\x80\xa8"}'),
        ([], b"[]"),
    ],
)
def test_canonical_bytes_are_these(value: Any, expected: bytes) -> None:
    """Keys sorted, no spaces, UTF-8 as it is: digests in evidence of other years depend on it."""
    assert canonical_json(value) == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", [canonical_json, pretty_json, lambda value: jsonl_bytes([value])])
def test_what_is_no_json_number_is_refused(form: Callable[[Any], Any], number: float) -> None:
    """No form writes NaN or an infinity, at any depth: other readers would not take the file."""
    with pytest.raises(ValueError, match="JSON compliant"):
        form({"a": [{"b": number}]})


def test_text_that_has_no_bytes_is_refused() -> None:
    """A lone surrogate has no UTF-8 form, so it has no digest."""
    with pytest.raises(UnicodeEncodeError):
        canonical_json("\ud800")


def test_pretty_json_is_for_people() -> None:
    """Two spaces a level, the order given, letters as they are, and a newline at the end."""
    assert pretty_json({"b": ["ä"], "a": 1}) == '{\n  "b": [\n    "ä"\n  ],\n  "a": 1\n}\n'


def test_digests_are_sha256_in_hex() -> None:
    """The known digests of `abc` and of nothing; a text is its UTF-8 bytes."""
    assert digest_bytes(b"abc") == digest_text("abc") == SHA256_ABC
    assert digest_bytes(b"") == digest_text("") == SHA256_EMPTY
    assert digest_text("ä") == digest_bytes(b"\xc3\xa4")


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    """Whatever its length is against the chunks in which it is read."""
    data = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    assert digest_file(tmp_path / "file") == hashlib.sha256(data[:size]).hexdigest()


def test_a_large_file_is_never_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than 1 MiB of it is asked for at a time, and no less: a call for every byte would take hours."""
    asked: list[int] = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda self, mode: Stream(b"abc"))
    assert digest_file(tmp_path / "any") == SHA256_ABC
    assert set(asked) == {MIB}


def test_a_tree_is_named_by_relative_paths_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """POSIX paths from the root, files only, the same order whatever the file system says first."""
    for name in ("b.txt", "a/x/deep", "a/y", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty").mkdir()
    expected = [(name, digest_text(name)) for name in ("a/x/deep", "a/y", "b.txt", "c")]
    real = Path.rglob
    for order in (sorted, lambda paths: sorted(paths, reverse=True)):
        monkeypatch.setattr(Path, "rglob", lambda self, pattern, order=order: order(real(self, pattern)))
        assert list(digest_tree(tmp_path).items()) == expected


@given(VALUES)
def test_measurements_are_left_out_at_any_depth(value: Any) -> None:
    """What a clock or an allocator says makes no difference; everything else stays as it was."""
    assert without_measurements(measured(value)) == value


def test_a_read_only_object_is_an_object() -> None:
    """Any mapping loses its measurements, not only a dict."""
    assert without_measurements(MappingProxyType({"loss": 1.5, "seconds": 2.0})) == {"loss": 1.5}


def test_what_json_has_no_form_for_comes_back_itself() -> None:
    """Whoever writes the value says then what is wrong with it."""
    other = object()
    assert without_measurements(other) is other
    assert without_measurements({"a": other}) == {"a": other}


@given(st.lists(st.dictionaries(KEYS, LEAVES, max_size=3), max_size=4))
def test_json_lines_are_the_rows(rows: list[dict[str, Any]]) -> None:
    """One object a line, each line ended; line ends inside a text are escaped, or no line ends at all (U+2028)."""
    *lines, last = jsonl_bytes(rows).split(b"\n")
    assert ([json.loads(line) for line in lines], last) == (rows, b"")


def test_json_lines_keep_order_and_letters() -> None:
    """Keys come in the order given, for people, and letters as they are."""
    assert jsonl_bytes([{"b": "ä", "a": 1}, {"c": None}]) == '{"b": "ä", "a": 1}\n{"c": null}\n'.encode()
    assert jsonl_bytes([]) == b""


@pytest.fixture
def result_of(tmp_path: Path) -> Callable[[str, str], str]:
    """The digest of a result file with this ending and this text."""

    def digest(ending: str, text: str) -> str:
        path = tmp_path / f"result{ending}"
        path.write_text(text, encoding="utf-8")
        return digest_result(path)

    return digest


ROWS = [{"id": "a", "text": "ein\u2028Wort", "new_tokens": 3}, {"id": "b", "text": None, "new_tokens": 0}]


def test_results_of_two_runs_agree(result_of: Callable[[str, str], str]) -> None:
    """The same rows with other times have one digest, whatever the order of keys; another text has another."""
    plain = result_of(".jsonl", jsonl_bytes(ROWS).decode())
    assert plain == result_of(".jsonl", jsonl_bytes(reversed_keys(measured(ROWS))).decode())
    assert plain == digest_json(ROWS)
    assert plain != result_of(".jsonl", jsonl_bytes([ROWS[0], {**ROWS[1], "text": ""}]).decode())
    assert plain != result_of(".jsonl", jsonl_bytes(ROWS[::-1]).decode())


def test_a_json_result_is_one_value_over_many_lines(result_of: Callable[[str, str], str]) -> None:
    """How it is laid out does not matter; it is one row."""
    expected = digest_json([{"loss": 1.5, "rows": ROWS}])
    for form in (pretty_json, lambda value: canonical_json(value).decode()):
        assert result_of(".json", form(measured({"rows": ROWS, "loss": 1.5}))) == expected


def test_blank_lines_are_no_rows(result_of: Callable[[str, str], str]) -> None:
    """A line end too many, or one too few at the end, says nothing."""
    assert result_of(".jsonl", '{"a": 1}\n\n{"b": 2}') == result_of(".jsonl", '{"a": 1}\n{"b": 2}\n')
    assert result_of(".jsonl", "") == digest_json([])


@pytest.mark.parametrize(("ending", "text"), [(".json", '{"a": 1}\n{"b": 2}\n'), (".jsonl", "{\n}\n"), (".jsonl", "x")])
def test_what_is_neither_is_refused(result_of: Callable[[str, str], str], ending: str, text: str) -> None:
    """JSON lines in a .json file, one value over several lines of a .jsonl file, no JSON at all."""
    with pytest.raises(ValueError):  # noqa: PT011  # the reader's own words
        result_of(ending, text)


SEALED = {"name": "é", "number": 1e-05, "list": [1, None, {"deep": True}]}


@pytest.mark.parametrize("write", [lambda value: pretty_json(value).encode(), lambda value: jsonl_bytes([value])])
def test_a_sealed_value_comes_back_and_no_changed_byte_does(write: Any) -> None:
    """Every bit of it, the seal's and the spaces' too."""
    data = write(sealed(SEALED, "sha256"))
    assert unsealed(data, "sha256") == SEALED
    assert list(unsealed(data, "sha256") or ()) == list(SEALED)
    for place in range(len(data) * 8):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        assert unsealed(bytes(changed), "sha256") is None, bytes(changed)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]\n", b"[\n  1\n]\n", b'"sha256"\n', b"null\n", b"{}\n", b"\xff", b'{"sha256": 1}\n', b"[" * 100_000, b'{"a": NaN, "sha256": ""}\n',
     b'{"a": "\\ud800", "sha256": ""}\n', pretty_json(SEALED).encode(), pretty_json(sealed(SEALED, "other")).encode(),
     pretty_json(sealed(SEALED, "sha256")).replace("  ", " ").encode()],
)  # fmt: skip
def test_what_was_never_sealed_is_no_value(data: bytes) -> None:
    """Of another shape, nested too deeply, without the seal, or written in another form."""
    assert unsealed(data, "sha256") is None


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest of a tree is of all of it, or an error. (Permissions do not bind root: the refusal is put in its place.)"""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("1")
    assert list(digest_tree(tmp_path)) == ["closed/file"]
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:  # undone before the folder is removed
        patch.setattr(os, "scandir", scandir)
        with pytest.raises(PermissionError):
            digest_tree(tmp_path)


def test_what_is_no_folder_has_no_files(tmp_path: Path) -> None:
    """One that is absent, and a file in its place."""
    (tmp_path / "file").touch()
    assert files_below(tmp_path / "absent") == files_below(tmp_path / "file") == []
    assert digest_tree(tmp_path / "absent") == {}


def test_only_files_are_files(tmp_path: Path) -> None:
    """A pipe would be waited for, a link that leads nowhere has no bytes; a link to a file has the file's."""
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("absent")
    os.mkfifo(tmp_path / "pipe")
    assert files_below(tmp_path) == [tmp_path / "file", tmp_path / "link"]
    assert digest_tree(tmp_path) == dict.fromkeys(("file", "link"), digest_text("1"))


@pytest.mark.parametrize(
    ("head", "program"),
    [
        (gzip.compress(b"rows"), "gunzip"),
        (bz2.compress(b"rows"), "bunzip2"),
        (lzma.compress(b"rows"), "unxz"),
        (0xFD2FB528.to_bytes(4, "little"), "unzstd"),  # RFC 8878, section 3.1.1
        (0x184D2204.to_bytes(4, "little"), "lz4 -d"),  # LZ4 Frame Format 1.6
        (b'{"text": "a"}\n', None),
        (b" " + gzip.compress(b"rows"), None),
        (b"BZ", None),
        (b"", None),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "lz4", "text", "gzip further on", "two letters", "empty"],
)
def test_a_compressed_file_is_known_by_its_first_bytes(head: bytes, program: str | None) -> None:
    """As the programs that compress write them; the same bytes further on say nothing."""
    assert unpacker_of(head) == program


NUMBERS = st.recursive(
    LEAVES | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def non_finite(value: Any) -> list[float]:
    """Every NaN and infinity in a value."""
    if isinstance(value, float):
        return [] if math.isfinite(value) else [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for child in children for found in non_finite(child)]


@given(st.dictionaries(KEYS.filter(lambda key: key != "non_finite"), NUMBERS, max_size=4))
def test_what_json_cannot_hold_becomes_null_and_is_named(values: dict[str, Any]) -> None:
    """Every object can then be written and says what was replaced; one without such numbers is unchanged."""
    found = finite_or_null(values)
    canonical_json(found)
    if non_finite(values):
        assert set(found["non_finite"].values()) <= {"NaN", "Infinity", "-Infinity"}
        assert len(found["non_finite"]) > 0
    else:
        assert found == values


def test_each_is_named_by_its_path() -> None:
    """Keys and numbers of places with a point between them, each with the number that stood there; the rest is as it was."""
    infinity = float("inf")
    row = {"loss": float("nan"), "norms": {"q": [1.5, -infinity, (infinity, "NaN")]}, "n": 3}
    assert finite_or_null(row) == {
        "loss": None, "norms": {"q": [1.5, None, [None, "NaN"]]}, "n": 3,
        "non_finite": {"loss": "NaN", "norms.q.1": "-Infinity", "norms.q.2.0": "Infinity"},
    }  # fmt: skip


def test_reasons_are_added_to_those_that_are_there() -> None:
    """A row that already has a null keeps its reason."""
    row = finite_or_null({"loss": float("inf")})
    assert finite_or_null({**row, "eval_loss": float("nan")}) == {
        "loss": None, "eval_loss": None, "non_finite": {"loss": "Infinity", "eval_loss": "NaN"},
    }  # fmt: skip
