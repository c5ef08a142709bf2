"""Characters that a terminal acts on are named, whichever they are; text that people need stays."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from engine.errors import Diagnostic, Where, render
from engine.printable import aligned, escaped_json, is_shown_as_it_is, one_line, printable

ACTING = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
]
FORGED = "\x1b[2J\x1b]0;t\x07\x9b2Jok\r\nV24  pass\u202e3L\u2066\u2028\x7f"


def test_every_acting_character_of_unicode_is_named_and_no_other() -> None:
    """Law: by Unicode's own tables, all control, surrogate, separator and reordering characters; 2,000 in all."""
    assert len(ACTING) > 2000
    for character in ACTING:
        kept = character in "\n\t"
        assert printable(character) == (character if kept else f"<U+{ord(character):04X}>")
        assert is_shown_as_it_is(character) == (character == "\t")
    acting = set(ACTING)
    others = "".join(character for character in map(chr, range(sys.maxunicode + 1)) if character not in acting)
    assert printable(others) == others


def test_a_cell_stays_on_its_line_and_a_caret_under_its_character() -> None:
    """Law: a line feed cannot begin a line of its own, and a replaced line has its length."""
    assert one_line(FORGED) == (
        "<U+001B>[2J<U+001B>]0;t<U+0007><U+009B>2Jok<U+000D>⏎V24  pass<U+202E>3L<U+2066><U+2028><U+007F>"
    )
    assert len(aligned(FORGED)) == len(FORGED)
    assert printable(printable(FORGED)) == printable(FORGED)


def test_json_says_the_same_without_an_acting_character() -> None:
    """Law: the document is equal, its text has none of them but the line feeds between its lines."""
    document = {FORGED: [FORGED, {"a": FORGED}]}
    text = escaped_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document
    assert set(text).isdisjoint(set(ACTING) - {"\n"})


@pytest.mark.parametrize("place", ["message", "hint", "file", "text"])
def test_a_finding_shows_no_acting_character_and_no_finding_of_another(place: str) -> None:
    """Law: wherever the stranger's text stands in a finding; no line of it begins like a finding."""
    text = FORGED + "\nerror[S101]: forged"
    where = Where(text if place == "file" else "a.yaml", 1, 3, text if place == "text" else "key: 1")
    shown = render(
        Diagnostic("Y001", text if place == "message" else "bad", where, text if place == "hint" else "mend")
    )
    assert set(shown).isdisjoint(set(ACTING) - {"\n"})
    assert [line for line in shown.split("\n") if line.startswith("error[")] == [shown.split("\n")[0]]
