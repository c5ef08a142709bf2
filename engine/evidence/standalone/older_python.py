"""A module's text as Python 3.9 reads it: the engine needs 3.11, a stranger's machine may have an older one.

In: text. Out: text that means the same. Three things are written in another way: ``@dataclass(slots=True)``, which saves memory
only, ``isinstance(value, int | float)`` and ``datetime.UTC``. ``zip(..., strict=True)`` is the loader's (:data:`COMPAT`).

    >>> for_python_3_9("isinstance(x, int | str | A.B)")
    'isinstance(x, (int, str, A.B))'
    >>> for_python_3_9("@dataclass(frozen=True, slots=True)\\nclass A: ...")
    '@dataclass(frozen=True)\\nclass A: ...'
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_MAY_NEED_IT = re.compile(r"\.UTC\b|\bslots=|\bis(?:instance|subclass)\(")
_TYPE_TESTS = ("isinstance", "issubclass")
Edit = tuple[int, int, str]  # bytes from, to, and what stands there instead


def for_python_3_9(text: str) -> str:
    """The text. Whether Python 3.9 reads it, a test shows."""
    if not _MAY_NEED_IT.search(text):
        return text
    data, starts = text.encode(), _line_starts(text)
    tree = ast.parse(text)
    edits = [edit for node in ast.walk(tree) for edit in _edits(node, data, starts)]
    for begin, end, instead in sorted(edits, reverse=True):
        data = data[:begin] + instead.encode() + data[end:]
    return data.decode()


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line.encode()) + 1)
    return starts


def _edits(node: ast.AST, data: bytes, starts: list[int]) -> Iterator[Edit]:
    if isinstance(node, ast.Attribute) and node.attr == "UTC":
        yield *_span(node, starts), f"{_source(node.value, data, starts)}.timezone.utc"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return
    if node.func.id in _TYPE_TESTS and len(node.args) == 2 and isinstance(node.args[1], ast.BinOp):
        kinds = node.args[1]
        words = [_source(part, data, starts) for part in _united(kinds)]
        yield *_span(kinds, starts), f"({', '.join(words)})"
    if node.func.id == "dataclass" and any(keyword.arg == "slots" for keyword in node.keywords):
        begin, end = _span(node, starts)
        rest = [
            f"{keyword.arg}={_source(keyword.value, data, starts)}"
            for keyword in node.keywords
            if keyword.arg != "slots"
        ]
        yield begin, end, f"dataclass({', '.join(rest)})"


def _united(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of ``a | b | c``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _united(node.left)
        yield from _united(node.right)
    else:
        yield node


def _span(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    last, column = node.end_lineno or node.lineno, node.end_col_offset or 0
    return starts[node.lineno - 1] + node.col_offset, starts[last - 1] + column


def _source(node: ast.expr, data: bytes, starts: list[int]) -> str:
    begin, end = _span(node, starts)
    return data[begin:end].decode()
