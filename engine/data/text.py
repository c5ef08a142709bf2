"""Text of rows: comparing two prompts, and printing a person's line.

>>> normalise_prompt("  What is\\t2 + 2? ") == normalise_prompt("what IS 2 + 2?")
True
"""

from __future__ import annotations

import unicodedata

from engine.errors import Where
from engine.printable import aligned

SNIPPET_CHARACTERS = 160
NEAR_CHARACTERS = 24


def normalise_prompt(text: str) -> str:
    """NFC, case folded, runs of white space one space, none at the ends: equal means "the same prompt"."""
    folded = unicodedata.normalize("NFC", text).casefold()
    # Case folding can leave text that is no longer composed (say U+0345), so compose once more.
    return " ".join(unicodedata.normalize("NFC", folded).split())


def excerpt(text: str, limit: int = 60) -> str:
    """At most ``limit`` characters on one line, for messages and samples.

    >>> excerpt("one\\ntwo")
    'one⏎two'
    """
    flat = aligned(text.replace("\n", "⏎"))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def position(file: str, line: int, text: str = "", column: int = 0, width: int = 1, path: str = "") -> Where:
    """A position in a JSONL file.

    A line of JSONL can have thousands of characters: it is printed only where it is short enough
    for a caret to help; the column is always right.
    """
    line_text = aligned(text) if text and len(text) <= SNIPPET_CHARACTERS else None
    return Where(file, line, column, line_text, width, path)


def near(text: str, column: int) -> str:
    """The characters around a column, for lines too long to print.

    >>> near("short", 3)
    ''
    """
    if len(text) <= SNIPPET_CHARACTERS or not column:
        return ""
    start = max(0, column - 1 - NEAR_CHARACTERS)
    return f", near `{aligned(text[start : column - 1 + NEAR_CHARACTERS]).strip()}`"
