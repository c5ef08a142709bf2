"""Text of a model -> the answer in it -> its form for comparison. Rule ``v1``, frozen.

    >>> extract_answer("12 + 30 = 42\\nAnswer: 42 \\n")
    '42'
    >>> normalise("  PARIS\\u00a0") == normalise("paris")
    True

The decisions of v1 (a change of any of these is v2, a new function beside this one):

* the marker is ``Answer:``, matched without regard to ASCII case, anywhere in the text; the last one counts;
* the answer is everything after the marker up to the end of the text, further lines included;
* without a marker the whole text is the answer; an empty answer stays empty (no fall-back to an earlier one);
* both ends are stripped of Unicode white space (``str.strip``), inner white space is kept;
* comparison is by Unicode full case folding (``ß`` equals ``ss``), code point by code point: no Unicode
  normalisation, no removal of punctuation, no reading of numbers (``4.0`` is not ``4``, ``4.`` is not ``4``).
"""

from __future__ import annotations

import re

# ASCII: without it IGNORECASE would let U+017F (long s) stand for the s of "answer".
_MARKER = re.compile(r"answer:", re.IGNORECASE | re.ASCII)


def extract_answer(text: str) -> str:
    """The answer in a model's text: the text after the last ``Answer:``, or all of it; stripped."""
    end = 0
    for marker in _MARKER.finditer(text):
        end = marker.end()
    return text[end:].strip()


def has_marker(answer: str) -> bool:
    """Whether an expected answer has a marker in it: no extracted answer has one, so that nothing equals it."""
    return _MARKER.search(answer) is not None


def normalise(answer: str) -> str:
    """The form in which two answers are compared: stripped and case-folded."""
    return answer.strip().casefold()
