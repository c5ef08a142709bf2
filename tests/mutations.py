"""Mutants of a module: its text with one small fault each, of the kind that tests are there to notice.

In: the text of a Python module. Out: :class:`Mutant`, with the text that has the fault. Changed are comparisons,
arithmetic, `and` / `or`, conditions (negated), constants (numbers by one, texts by a character, True / False),
defaults that are None, loops (no round), return values (None), the order of the first two arguments, `min` / `max` and
`any` / `all`; left out are calls (for their first argument), computed keyword arguments and ends of slices, and
statements with an effect.
Left alone is what only a reader or a type checker sees: annotations, decorators, docstrings, imports, asserts, `__all__`.

    >>> [(mutant.before, mutant.after) for mutant in mutants_of("def older(a, b):\\n    return a > b")]
    [('return a > b', 'return None'), ('return a > b', 'return a >= b')]
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE,), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE,), ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.FloorDiv,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Div), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,), ast.Or: (ast.And,),
}  # fmt: skip
OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # changed, these are the negation already
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNSEEN_FIELDS = {"annotation", "returns", "decorator_list", "format_spec", "type_params"}
SHOWN = 40  # characters of the line that are shown on either side of a change
MOST_SHOWN = 160  # characters of one line


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: the line of the original it is in, the line before and after it, and the whole faulty text."""

    line: int
    before: str
    after: str
    text: str


def mutants_of(text: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines; no two have the same text."""
    tree = ast.parse(text)
    original = ast.unparse(tree)
    found, seen = [], {original}
    for node, line, put in list(_places(tree)):
        for changed in _changes(node):
            put(changed)
            faulty = ast.unparse(ast.fix_missing_locations(tree))
            put(node)
            if faulty not in seen:
                seen.add(faulty)
                found.append(Mutant(line, *_difference(original, faulty), faulty))
    return sorted(found, key=lambda mutant: mutant.line)


def _places(node: ast.AST, line: int = 1) -> Iterator[tuple[Any, int, Callable[[Any], None]]]:
    """(node, its line, how to put another in its place), for all nodes that may be changed."""
    for field, value in ast.iter_fields(node):
        if field in UNSEEN_FIELDS:
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_unseen(child):
                continue
            at = getattr(child, "lineno", line)
            yield child, at, _putter(node, field, index)
            yield from _places(child, at)


def _putter(node: ast.AST, field: str, index: int) -> Callable[[Any], None]:
    value = getattr(node, field)
    if isinstance(value, list):
        return lambda changed: value.__setitem__(index, changed)
    return lambda changed: setattr(node, field, changed)


def _is_unseen(node: ast.AST) -> bool:
    """What no run of the program shows."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False


def _difference(original: str, faulty: str) -> tuple[str, str]:
    """The first line in which two texts differ, in both; of a long line what is around the change."""
    before, after = next(
        pair for pair in zip(original.split("\n"), faulty.split("\n"), strict=False) if pair[0] != pair[1]
    )
    before, after = before.strip(), after.strip()
    shorter = min(len(before), len(after))
    same = next((place for place in range(shorter) if before[place] != after[place]), shorter)
    same_end = next(
        (place for place in range(shorter - same) if before[-1 - place] != after[-1 - place]), shorter - same
    )
    first, last = same - SHOWN, same_end - SHOWN

    def shown(text: str) -> str:
        middle = text[max(first, 0) : len(text) - max(last, 0)]
        middle = middle if len(middle) <= MOST_SHOWN else middle[:MOST_SHOWN] + "…"
        return f"{'…' if first > 0 else ''}{middle}{'…' if last > 0 else ''}"

    return shown(before), shown(after)


def _with(node: ast.AST, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _without(values: list[Any], index: int) -> list[Any]:
    return [*values[:index], *values[index + 1 :]]


@singledispatch
def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    yield from ()


@_changes.register
def _(node: ast.operator | ast.cmpop | ast.boolop) -> Iterator[ast.AST]:
    for other in OPERATORS.get(type(node), ()):
        yield other()


@_changes.register
def _(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


@_changes.register
def _(node: ast.Constant) -> Iterator[ast.AST]:
    match node.value:
        case bool():
            yield ast.Constant(not node.value)
        case int() | float():
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case str():
            yield ast.Constant("~" + node.value)
        case bytes():
            yield ast.Constant(b"~" + node.value)


@_changes.register
def _(node: ast.arguments) -> Iterator[ast.AST]:
    for field in ("defaults", "kw_defaults"):
        values = getattr(node, field)
        for index, value in enumerate(values):
            if isinstance(value, ast.Constant) and value.value is None:
                yield _with(node, **{field: [*values[:index], ast.Constant(0), *values[index + 1 :]]})


@_changes.register
def _(node: ast.If | ast.While | ast.IfExp) -> Iterator[ast.AST]:
    for test in _negations(node.test):
        yield _with(node, test=test)


@_changes.register
def _(node: ast.comprehension) -> Iterator[ast.AST]:
    for index, condition in enumerate(node.ifs):
        for test in _negations(condition):
            yield _with(node, ifs=[*node.ifs[:index], test, *node.ifs[index + 1 :]])


def _negations(test: ast.expr) -> Iterator[ast.expr]:
    is_done = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], OPPOSITES)
    if not is_done and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        yield ast.UnaryOp(ast.Not(), test)


@_changes.register
def _(node: ast.For) -> Iterator[ast.AST]:
    yield _with(node, iter=ast.Tuple([], ast.Load()))


@_changes.register
def _(node: ast.Call) -> Iterator[ast.AST]:
    if len(node.args) > 1 and not any(isinstance(one, ast.Starred) for one in node.args[:2]):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None and not isinstance(keyword.value, ast.Constant):
            yield _with(node, keywords=_without(node.keywords, index))
    if isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield _with(node, func=ast.Name(NAMES[node.func.id], ast.Load()))
    yield from _left_out(node)


def _left_out(call: ast.Call) -> Iterator[ast.AST]:
    """`sorted(names)` -> `names`, `text.strip()` -> `text`."""
    if call.args and not isinstance(call.args[0], ast.Starred):
        yield call.args[0]
    elif not call.args and not call.keywords and isinstance(call.func, ast.Attribute):
        yield call.func.value


@_changes.register
def _(node: ast.Slice) -> Iterator[ast.AST]:
    for end in ("lower", "upper"):
        if getattr(node, end) is not None and not isinstance(getattr(node, end), ast.Constant):
            yield _with(node, **{end: None})


@_changes.register
def _(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None:
        yield ast.Return(ast.Constant(None))


@_changes.register
def _(node: ast.Expr | ast.Raise | ast.AugAssign) -> Iterator[ast.AST]:
    yield ast.Pass()


@_changes.register
def _(node: ast.Assign) -> Iterator[ast.AST]:
    if any(isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets):
        yield ast.Pass()


@_changes.register
def _(node: ast.Break) -> Iterator[ast.AST]:
    yield ast.Continue()


@_changes.register
def _(node: ast.Continue) -> Iterator[ast.AST]:
    yield ast.Break()
