"""A stranger's text as it is shown on a page or in a terminal: what would act is named, nothing is hidden.

    >>> shown("clear\\x1b[2J")
    'clear<U+001B>[2J'
    >>> shown_on_one_line("right\\nq2  right")
    'right⏎q2  right'

Acting are control characters (not the line feed and the tab), the two line separators, lone surrogates, and what shows its
neighbours in another order. Joiners, soft hyphens and no-break spaces are text.
"""

from __future__ import annotations

import re

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Text of several lines."""
    return _ACTS.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def shown_on_one_line(text: str) -> str:
    """What must stay on its line: a name, a reason."""
    return shown(text.replace("\n", "⏎").replace("\t", " "))
