"""The one place where characters that a terminal acts on are taken out of text before it is shown.

In: text of a stranger (a name, a value, a prompt, an answer, a key, an error) on its way to a terminal, a log or a page.
Out: the same text with each such character named, so that nothing is hidden and nothing acts.

    >>> printable("clear\\x1b[2J and \\u202ereversed")
    'clear<U+001B>[2J and <U+202E>reversed'
    >>> one_line("pass\\nV24  pass")
    'pass⏎V24  pass'

Acting are the control characters (ESC, BEL, the CSI of 8 bits, a carriage return; not the line feed and the tab), those that
show their neighbours in another order, and the two line separators. Joiners, soft hyphens, no-break and thin spaces, the marks of direction
are text: languages and emoji need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LINE_FEED, _TAB = "\n", "\t"
# Categories Cc, Zl and Zp, lone surrogates (Cs), and the embeddings, overrides and isolates of right-to-left writing.
_CODES = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x2028, 0x2029),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_CLASS = "".join(f"\\u{code:04x}" for code in _CODES if chr(code) not in (_LINE_FEED, _TAB)) + r"\ud800-\udfff"
_ACTS = re.compile(f"[{_CLASS}]")


def is_shown_as_it_is(character: str) -> bool:
    """False for characters that act, and for the line feed, which ends a line.

    >>> [is_shown_as_it_is(character) for character in "a\u200d\u00ad\u00a0\x1b\u202e"]
    [True, True, True, True, False, False]
    """
    return character != _LINE_FEED and not _ACTS.match(character)


def printable(text: str) -> str:
    """Text of several lines with every acting character named, ``<U+001B>``."""
    if text.isprintable():  # nearly every text; the answer comes from a table in C
        return text
    return _ACTS.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def one_line(text: str) -> str:
    """The same for what must stay on its line: a name, a cell of a table. A line feed is shown as ⏎, a tab as a space."""
    return printable(text.replace(_LINE_FEED, "⏎").replace(_TAB, " "))


def aligned(text: str) -> str:
    """One line of a person's file, each acting character replaced one for one, as a caret below it needs.

    >>> aligned("a\\x1bb")
    'a\ufffdb'
    """
    return _ACTS.sub("\N{REPLACEMENT CHARACTER}", text).replace(_LINE_FEED, "\N{REPLACEMENT CHARACTER}")


def escaped_json(document: str) -> str:
    """The text of a JSON document that says the same with no acting character in it: outside of strings JSON has none.

    >>> escaped_json('{"name": "\\x9b2J"}')
    '{"name": "\\\\u009b2J"}'
    """
    return _ACTS.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def columns(rows: Iterable[tuple[str, ...]], indent: str = "  ") -> str:
    """Rows of words, aligned; a cell stays on its line, whatever it contains.

    >>> print(columns([("a", "1"), ("long", "2")], indent=""))
    a     1
    long  2
    """
    table = [tuple(one_line(str(cell)) for cell in row) for row in rows]
    if not table:
        return ""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)
