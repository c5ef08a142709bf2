r"""Shapes of secrets that do not stand there as they are: in base64 or hex, escaped for URLs, JSON or HTML, backwards, over lines.

In: bytes. Out: (start, end, kind) of every match, in the bytes as they are; the kind says how it is spelled. What stands there plainly,
which is :mod:`engine.redact.shapes`', can be among them, with more of the text around it.

Each spelling is a view: the bytes decoded, and where each of them comes from. Runs of an alphabet are decoded (base64 at each of the
four places where a group may begin, hex at both), all of them together into one view, so that a search costs what its text is
long; a view is decoded once more, since what is encoded is often encoded twice.

    >>> [kind for _, _, kind in find_hidden(b"see 68665f" + b"314142" * 10 + b" there")]
    ['a Hugging Face token, in hex']
    >>> [kind for _, _, kind in find_hidden(b"# %s\n# %s\n" % (b"hf_1ABcdeFGh", b"2ijKLm3nopQR"))]
    ['a Hugging Face token, over lines']
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.redact.shapes import Match, find_shapes, find_tokens, is_placeholder

AROUND = 400  # bytes of plain text around an escape, or the end of a line, in which the rest of a secret may be
DEEPEST = 2  # encodings within each other
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_RUNS = bytes(97 if code in _BASE64 else 32 for code in range(256))
_LEAST = b"a" * 26  # characters that encode nearly 20 bytes, which a token has
_HEX = re.compile(rb"(?:[0-9a-f]+|[0-9A-F]+)")
_HEX_OF_TEXT = re.compile(rb"(?:[2-7][0-9a-fA-F]){20}")  # what a digest does not have
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# What must be there -> one character, as URLs, JSON and source code, and HTML write it; each begins with a literal, which is fast.
_ESCAPES = (
    (b"%", re.compile(rb"%([0-9A-Fa-f]{2})")),
    (b"\\", re.compile(rb"\\(?:\\{0,3})(?:u00|x)([0-9A-Fa-f]{2})")),
    (b"&#", re.compile(rb"&#(?:x([2-7][0-9A-Fa-f])|(9|10|13|3[2-9]|[4-9][0-9]|1[01][0-9]|12[0-6]));")),
)
# The end of a line within a word, with what may mark the next line as a comment or as a continued text.
_JOIN = re.compile(
    rb"\n(?<=[A-Za-z0-9_.+/-]{3}\n)\n{0,3}[ \t]{0,80}(?:(?:[#;>|*]{1,4}|//+|--) ?)?[ \t\"']{0,80}(?=[A-Za-z0-9_.+/-]{3})"
)
_LINE = re.compile(rb"[A-Za-z0-9_.+/-]*")
_MARKED_END = re.compile(rb"\n(?<=[\"'\\\r+]\n)")
_ENDS = (b"\r\n", b" \\\n", b'"\\\n', b"\\\n", b'" +\n', b'"\n', b"'\n")  # of a line whose text goes on


class View(NamedTuple):
    """``origin``: (start, end) in the view -> in the bytes that it was made from."""

    data: bytes
    how: str
    origin: Callable[[int, int], tuple[int, int]]


def find_hidden(data: bytes, depth: int = DEEPEST) -> Iterator[Match]:
    """Every match, in no order."""
    yield from _backwards(data)
    for text in _rewritten(data):
        if text.how == OVER_LINES:
            yield from _over_lines(data, _of_view(text, find_tokens(text.data)))
        else:
            yield from _of_view(text, find_shapes(text.data))
        for view in _decoded(text.data):
            for start, end, kind in _of_view(view, find_shapes(view.data)):
                yield (*text.origin(start, end), kind)
    for view in _decoded(data):
        yield from _of_view(view, find_shapes(view.data))
        if depth > 1:
            yield from ((*view.origin(start, end), kind) for start, end, kind in find_hidden(view.data, depth - 1))


def _of_view(view: View, matches: Iterator[Match]) -> Iterator[Match]:
    """The matches where they come from."""
    for start, end, kind in matches:
        yield (*view.origin(start, end), f"{kind}, {view.how}")


def _over_lines(data: bytes, matches: Iterator[Match]) -> Iterator[Match]:
    """Without those whose first line alone shows the form of a token: what stands below has nothing to do with it."""
    for start, end, kind in matches:
        if not is_placeholder(_LINE.match(data, start, end)[0]):  # type: ignore[index]
            yield start, end, kind


def _backwards(data: bytes) -> Iterator[Match]:
    """Tokens are found by :func:`find_shapes`; what stands beside a name, only where a name does."""
    lower = data.lower()
    if any(root in lower for root in _BACKWARDS) or b"AA:" in data or b"~Q" in data:
        for start, end, kind in find_shapes(data[::-1]):
            yield len(data) - end, len(data) - start, f"{kind}, backwards"


OVER_LINES = "over lines"
_BACKWARDS = (b"yek", b"nekot", b"terces", b"ssap", b"nigeb", b"bdnaw", b"//:", b"noitazirohtua")


def _rewritten(data: bytes) -> Iterator[View]:
    """Without escapes, and with lines that go on joined; where there are none, nothing."""
    for hint, pattern in _ESCAPES:
        if hint in data:
            yield from _changed(data, pattern, _character, "escaped")
    if b"\n" in data or b"\\n" in data:
        yield from _changed(_with_plain_ends(data), _JOIN, lambda _: b"", OVER_LINES)


def _character(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16) if match[1] else int(match[2])])


def _with_plain_ends(data: bytes) -> bytes:
    """The same length: each end of a line is one, or several, line feeds."""
    if b"\\n" in data:
        data = data.replace(b"\\r\\n", b"\n\n\n\n").replace(b"\\n", b"\n\n")
    for end in _ENDS if _MARKED_END.search(data) else ():
        data = data.replace(end, b"\n" * len(end))
    return data


def _changed(
    data: bytes, pattern: re.Pattern[bytes], make: Callable[[re.Match[bytes]], bytes], how: str
) -> Iterator[View]:
    """Every match replaced by one byte or none, with what stands around it; nothing where there is no match."""
    view, done = _Pieces(), 0
    for match in pattern.finditer(data):
        begin = match.start()
        if begin - done > 2 * AROUND:
            view.add(data[done : done + AROUND if view.parts else done], done)
            view.add(b"\n" if view.parts else b"", begin - AROUND)
            done = begin - AROUND
        view.add(data[done:begin], done)
        view.add(make(match), begin)
        done = match.end()
    if view.parts:
        view.add(data[done : done + AROUND], done)
        yield View(b"".join(view.parts), how, view.origin)


class _Parts:
    """Parts of a view, joined by ``between`` bytes each, with the places that they come from."""

    def __init__(self, between: int = 0) -> None:
        self.parts: list[bytes] = []
        self._at: list[int] = []
        self._source: list[int] = []
        self._length, self._between = 0, between

    def add(self, data: bytes, source: int) -> None:
        """One part; of no bytes it says where the next one comes from."""
        self.parts.append(data)
        self._at.append(self._length)
        self._source.append(source)
        self._length += len(data) + self._between


class _Pieces(_Parts):
    """Parts that stand in the view as they stand in the bytes, but for those that one byte stands for."""

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """From the first byte to the last one; a byte that stands for several ends where the next part begins."""
        first, last = bisect_right(self._at, start) - 1, bisect_right(self._at, end - 1) - 1
        stop = self._source[last] + end - self._at[last]
        following = last + 1
        if following < len(self._at) and end == self._at[following] and len(self.parts[last]) == 1:
            stop = max(stop, self._source[following])
        return self._source[first] + start - self._at[first], stop


def _decoded(data: bytes) -> Iterator[View]:
    """What runs of hex and of base64 stand for, one view of each."""
    texts: dict[str, _Decoded] = {"in hex": _Decoded(2, 1), "in base64": _Decoded(4, 3)}
    plain = data.translate(_RUNS)
    begin = plain.find(_LEAST)
    while begin >= 0:
        end = plain.find(b" ", begin)
        end = len(plain) if end < 0 else end
        if _HEX.fullmatch(data, begin, end):
            run = data[begin:end] if _HEX_OF_TEXT.search(data, begin, end) else b""
            for skipped in (0, 1) if run else ():
                texts["in hex"].add(
                    bytes.fromhex(run[skipped : skipped + (len(run) - skipped) // 2 * 2].decode()), begin + skipped
                )
        else:
            run = data[begin:end].translate(_URL_SAFE)
            for skipped in range(4):
                part = run[skipped:]
                texts["in base64"].add(binascii.a2b_base64(part + b"A" * (-len(part) % 4)), begin + skipped)
        begin = plain.find(_LEAST, end)
    for how, text in texts.items():
        if text.parts:
            yield View(b"\n".join(text.parts), how, text.origin)


class _Decoded(_Parts):
    """Decoded runs, a line each, with the places where they begin."""

    def __init__(self, characters: int, group: int) -> None:
        super().__init__(between=1)
        self.characters, self.group = characters, group

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The groups that these bytes are in."""
        index = bisect_right(self._at, start) - 1
        at, source = self._at[index], self._source[index]
        first, last = (start - at) // self.group, -(-(end - at) // self.group)
        return source + first * self.characters, source + last * self.characters
