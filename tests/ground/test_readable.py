"""Text with bytes that are not UTF-8: it can be written into any file, and a shell reads back what was typed."""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.canonical import canonical_json, readable, shell_words

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too, which st.text() leaves out
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


def as_typed(data: bytes) -> str:
    """What Python makes of the bytes of an argument or of a file's name."""
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("byte", [0x80, 0x8F, 0xE9, 0xFF])
def test_a_byte_that_is_not_utf8_is_written_as_its_number(byte: int) -> None:
    """In two digits, where it stands; what is around it stays."""
    assert readable(as_typed(b"lat" + bytes([byte]) + b"1.yaml")) == f"lat\\x{byte:x}1.yaml"


@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDC7F, 0xDD00, 0xDFFF])
def test_half_of_a_character_that_is_no_byte_is_written_as_its_code(code: int) -> None:
    """The bytes 80 to FF are surrogates from DC80 to DCFF; every other one comes from JSON."""
    assert readable(f"a{chr(code)}b") == f"a\\u{code:x}b"


@given(ANY_VALUE)
def test_every_value_can_be_written_then(value: Any) -> None:
    """Texts and keys at any depth have a form in UTF-8; a second time there is nothing left to do."""
    written = readable(value)
    assert canonical_json(written)
    assert readable(written) == written


@pytest.mark.parametrize(
    "value", [None, True, 0, 7, 1.5, "", "é中\U0001f600\ud7ff\ue000", [], {}, {"é": [{"a": None}]}]
)
def test_what_is_utf8_stays_as_it_is(value: Any) -> None:
    """Values of every kind, and the letters next to the surrogates."""
    assert readable(value) == value
    assert type(readable(value)) is type(value)


def test_lists_tuples_and_keys_are_gone_through() -> None:
    """A tuple becomes the list that JSON makes of it."""
    assert readable({"\udce9": ("\udcff", ["\ud800", 1])}) == {"\\xe9": ["\\xff", ["\\ud800", 1]]}


@given(st.lists(st.text(max_size=6), max_size=4))
def test_words_of_utf8_are_quoted_as_for_any_shell(words: list[str]) -> None:
    """No form that only bash reads where none is needed."""
    assert shell_words(words) == shlex.join(words)
    assert shell_words(iter(words)) == shlex.join(words)


def test_bash_reads_every_word_back() -> None:
    """Byte for byte: any bytes but NUL in any order, quotes, backslashes and digits after a byte that is not UTF-8 among them."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    draw = random.Random(4)
    alphabets = [range(1, 256), b"'\\$\"` \n\xe9\xff0aA", b"ab /.-", "é中'".encode()]
    words = [bytes(draw.choices(draw.choice(alphabets), k=draw.randrange(8))) for _ in range(500)]
    words += [b"", b"it's lat\xe9.yaml", b"\\\xe9\\", b"\xe9'\xe9", b"a b"]
    command = f"printf '%s\\0' {shell_words(map(as_typed, words))}"
    done = subprocess.run(
        [bash, "-c", as_typed(command.encode())], capture_output=True, check=True, env={"LC_ALL": "C"}
    )
    assert done.stdout.split(b"\0") == [*words, b""]


def test_one_word_with_a_foreign_byte_does_not_change_the_others() -> None:
    """In one line of a log: only the word that needs it has bash's form."""
    assert shell_words(["a b", "c", "it's \udce9\\"]) == "'a b' c $'it\\'s \\xe9\\\\'"
