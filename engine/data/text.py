"""Text of rows: comparing two prompts, and printing a person's line.

>>> normalise_prompt("  What is\\t2 + 2? ") == normalise_prompt("what IS 2 + 2?")
True
"""

from __future__ import annotations

import unicodedata

from engine.errors import Where

SNIPPET_CHARACTERS = 160
NEAR_CHARACTERS = 24


def normalise_prompt(text: str) -> str:
    """NFC, case folded, runs of white space one space, none at the ends: equal means "the same prompt"."""
    folded = unicodedata.normalize("NFC", text).casefold()
    # Case folding can leave text that is no longer composed (say U+0345), so compose once more.
    return " ".join(unicodedata.normalize("NFC", folded).split())


# Characters that a terminal acts on, or that would show the others in another order; the two line separators end a line.
_ACTING = ("Cc", "Cs", "Zl", "Zp")
_REORDERING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def is_shown_as_it_is(character: str) -> bool:
    """False for control characters (except the tab) and those that reorder a line.

    Joiners, soft hyphens, no-break and thin spaces are text: languages and emoji need them.

    >>> [is_shown_as_it_is(character) for character in "a\u200d\u00ad\u00a0\x1b\u202e"]
    [True, True, True, True, False, False]
    """
    if character.isprintable() or character == "\t":
        return True
    return unicodedata.category(character) not in _ACTING and character not in _REORDERING


def printable(text: str) -> str:
    """The text with every character that cannot be shown as it is replaced, one for one, as a caret below it needs."""
    return "".join(character if is_shown_as_it_is(character) else "\N{REPLACEMENT CHARACTER}" for character in text)


def spelled(text: str) -> str:
    """The text with every such character named: nothing is damaged, it only cannot be shown.

    >>> spelled("naïve\u200b \x1b[2J")
    'naïve\u200b <U+001B>[2J'
    """
    return "".join(character if is_shown_as_it_is(character) else f"<U+{ord(character):04X}>" for character in text)


def excerpt(text: str, limit: int = 60) -> str:
    """At most ``limit`` characters on one line, for messages and samples.

    >>> excerpt("one\\ntwo")
    'one⏎two'
    """
    flat = printable(text.replace("\n", "⏎"))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def position(file: str, line: int, text: str = "", column: int = 0, width: int = 1, path: str = "") -> Where:
    """A position in a JSONL file.

    A line of JSONL can have thousands of characters: it is printed only where it is short enough
    for a caret to help; the column is always right.
    """
    line_text = printable(text) if text and len(text) <= SNIPPET_CHARACTERS else None
    return Where(file, line, column, line_text, width, path)


def near(text: str, column: int) -> str:
    """The characters around a column, for lines too long to print.

    >>> near("short", 3)
    ''
    """
    if len(text) <= SNIPPET_CHARACTERS or not column:
        return ""
    start = max(0, column - 1 - NEAR_CHARACTERS)
    return f", near `{printable(text[start : column - 1 + NEAR_CHARACTERS]).strip()}`"
