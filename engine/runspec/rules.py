"""Rules between keys, as keywords in the schemas: a step of a plug-in can use them like a built-in one.

    x-less-than: other              this number is less than the other   (warmup_steps, num_train_steps)
    x-shorter-than: other           this length of time is shorter than the other (session.margin, session.limit)
    x-at-most: other                this number is at most the other     (seq_len, model.config.max_position_embeddings)
    x-ends-by: [first, last]        a range of this length that starts at first ends at last or before (profile.steps)
    x-contains: […]                 the list contains all of these       (evidence.files)
    x-divides: other                the other is a multiple of this one  (num_key_value_heads, num_attention_heads)
    x-multiple-of: other            this number is a multiple of the other (keep_every_steps, save_every_steps)
    x-multiples: {a: b}             where this key is written, a is a multiple of b (both beside it)
    x-only-with: {other: […]}       the key is allowed only where the other one has one of these values
    x-only-with-any: {other: […]}   the same, but one of several other keys is enough
    x-only-above: {other: 0}        the key is allowed only where the other one is above that number
    x-needed-with: {other: […]}     the key is required where the other one has one of these values
    x-requires: {value: {other: […]}}  this value is allowed only where the other one has one of these values
    x-typical: {from, to, …}        a value outside is a warning, with its reason under below or above
    x-names: metric                 the text is the name of a metric, or of a builder

``other`` is a key beside this one, one beside the mapping this one is in (``../num_train_steps``), or a dotted address
from the top of the run-spec. Draft-07 ignores such keywords. :mod:`engine.runspec.keywords` has the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.protocol.deadline import seconds_of
from engine.runspec.findings import Case, scalar_text, suggestion
from engine.runspec.kinds import Schema, base_schema, properties
from engine.runspec.messages import described, example_line, listing, number_text
from engine.runspec.nodes import Items, Mapping, Node, Path, Scalar, plain

ABOVE = "../"


def check_rules(case: Case) -> None:
    """Add a finding for every rule that the document breaks."""
    _check_section(case.tree, base_schema(), (), case)
    for step in case.steps:
        arguments = step.node.get("with")
        if step.kind is not None and isinstance(arguments, Mapping):
            _check_section(arguments, step.kind.schema, (*step.path, "with"), case)


def _check_section(node: Mapping, schema: Schema, path: Path, case: Case) -> None:
    for key, entry in properties(schema).items():
        value, inner = node.get(key), (*path, key)
        if value is None:
            if inner not in case.findings.bad:
                _needed(key, entry, inner, case)
            continue
        if not case.findings.usable(inner):
            if isinstance(value, Mapping):
                _check_section(value, entry, inner, case)
            continue
        for keyword, rule in _RULES.items():
            if keyword in entry:
                rule(key, value, entry, inner, case)
        if isinstance(value, Mapping):
            _check_section(value, entry, inner, case)


def _other(name: str, path: Path, case: Case) -> Any:
    """The effective value of another key; None where it has none, or where something is wrong with it."""
    address = _address(name, path)
    node = case.at(*address)
    if node is not None:
        return plain(node) if case.findings.usable(address) else None
    schema: Schema = base_schema()
    for part in address:
        schema = _inner_schema(schema, part, address, case)
    return schema.get("default")


def _address(name: str, path: Path) -> Path:
    if name.startswith(ABOVE):
        return (*path[:-2], name.removeprefix(ABOVE))
    return tuple(name.split(".")) if "." in name else (*path[:-1], name)


def _inner_schema(schema: Schema, part: str | int, address: Path, case: Case) -> Schema:
    if part == "with":
        step = next((step for step in case.steps if step.path == address[:2]), None)
        return step.kind.schema if step and step.kind else {}
    inner: Schema = schema.get("items", {}) if isinstance(part, int) else properties(schema).get(part, {})
    return inner


def _number(name: str, path: Path, case: Case) -> float | None:
    value = _other(name, path, case)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _less_than(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["x-less-than"], path, case), _value(node)
    if other is not None and value is not None and value >= other:
        message = f"{key} is {number_text(value)}, and {entry['x-less-than']} only {number_text(other)}"
        case.findings.error("S311", message, path, node.position, f"{key} must be below {entry['x-less-than']}")


def _shorter_than(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    name = entry["x-shorter-than"]
    other, value = _other(name, path, case), node.value if isinstance(node, Scalar) else None
    if isinstance(other, str) and isinstance(value, str) and seconds_of(value) >= seconds_of(other):
        message = f"{key} is {value}, and {name} only {other}"
        case.findings.error("S311", message, path, node.position, f"{key} must be shorter than {name}")


def _at_most(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["x-at-most"], path, case), _value(node)
    if other is not None and value is not None and value > other:
        named = entry["x-at-most"].removeprefix(ABOVE)
        message = f"{key} is {number_text(value)}, and {named} only {number_text(other)}"
        case.findings.error("S314", message, path, node.position, f"lower {key}, or raise {named}")


def _ends_by(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    start, end = entry["x-ends-by"]
    first, last, count = _number(start, path, case), _number(end, path, case), _value(node)
    if first is None or last is None or count is None or first > last or first + count - 1 <= last:
        return  # a first beyond the last is a finding of x-at-most
    named = end.removeprefix(ABOVE)
    message = (
        f"{start} {number_text(first)} and {key} {number_text(count)} end with {number_text(first + count - 1)}, "
        f"and {named} is {number_text(last)}"
    )
    hint = f"{key}: {number_text(last - first + 1)} would end there"
    case.findings.error("S314", message, path, node.position, hint)


def _contains(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    present = plain(node) if isinstance(node, Items) else []
    missing = [name for name in entry["x-contains"] if name not in present]
    if missing:
        message = f"{key} lacks {', '.join(missing)}, which `runspec verify` requires"
        case.findings.error("S318", message, path, node.position, f"add {', '.join(missing)}, or leave {key} out")


def _divides(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["x-divides"], path, case), _value(node)
    if other is not None and value and other % value:
        message = f"{entry['x-divides']} ({number_text(other)}) is not a multiple of {key} ({number_text(value)})"
        case.findings.error("S310", message, path, node.position, entry.get("description"))


def _multiple_of(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = entry["x-multiple-of"], _value(node)
    divisor = _number(other, path, case)
    if value is not None and divisor and value % divisor:
        message = f"{key} ({number_text(value)}) is not a multiple of {other} ({number_text(divisor)})"
        case.findings.error("S310", message, path, node.position, f"{_near(value, divisor)} would be one")


def _multiples(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if _value(node) is None:
        return
    for name, other in entry["x-multiples"].items():
        value, divisor = _number(name, path, case), _number(other, path, case)
        if value and divisor and value % divisor:
            message = f"{key} needs {name} ({number_text(value)}) to be a multiple of {other} ({number_text(divisor)})"
            case.findings.error("S310", message, path, case.key_position(*path), f"write {other}: {number_text(value)}")


def _near(value: float, divisor: float) -> str:
    """The multiples on both sides.

    >>> _near(110, 25), _near(10, 25)
    ('100 or 125', '25')
    """
    below = value // divisor * divisor
    return " or ".join(number_text(near) for near in (below, below + divisor) if near)


def _typical(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    value, typical = _value(node), entry["x-typical"]
    low, high = typical.get("from"), typical["to"]
    if value is None or (low or 0) <= value <= high:
        return
    span = f"at most {number_text(high)}" if low is None else f"{number_text(low)} to {number_text(high)}"
    reason = typical["above" if value > high else "below"]
    message = f"{key} is {number_text(value)}; {span} is usual"
    case.findings.warn("S312", message, path, node.position, f"{reason}\ncheck the exponent")


def _value(node: Node) -> float | None:
    value = node.value if isinstance(node, Scalar) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _only_with(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return  # null means "none" and is allowed anywhere
    for other, allowed, value in _conditions(entry["x-only-with"], path, case):
        if value not in allowed:
            listed = listing([f"{other}: {described(choice)}" for choice in allowed])
            now = f"; here it is {described(value)}" if value is not None else ""
            message = f"{key} applies only with {listed}{now}"
            case.findings.error("S307", message, path, case.key_position(*path), f"remove it, or write {listed}")


def _only_with_any(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return
    conditions = list(_conditions(entry["x-only-with-any"], path, case))
    if len(conditions) < len(entry["x-only-with-any"]) or any(value in allowed for _, allowed, value in conditions):
        return
    listed = listing([f"{other}: {described(choice)}" for other, allowed, _ in conditions for choice in allowed])
    now = ", ".join(f"{other}: {described(value)}" for other, _, value in conditions)
    message = f"{key} applies only with {listed}; here it is {now}"
    case.findings.error("S307", message, path, case.key_position(*path), f"remove it, or write {listed}")


def _requires(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    chosen = node.value if isinstance(node, Scalar) else None
    for other, allowed, value in _conditions(entry["x-requires"].get(chosen, {}), path, case):
        if value not in allowed:
            choices = listing([f"{other}: {described(choice)}" for choice in allowed])
            message = f"{key}: {chosen} works only with {choices}; here it is {described(value)}"
            case.findings.error("S317", message, path, node.position, f"write {choices}, or leave {key} out")


def _only_above(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return
    for other, least in entry["x-only-above"].items():
        value = _number(other, path, case)
        if value is not None and value <= least:
            message = f"{key} applies only with {other} above {number_text(least)}; here it is {number_text(value)}"
            hint = f"remove it, or raise {other}"
            case.findings.error("S307", message, path, case.key_position(*path), hint)


def _needed(key: str, entry: Schema, path: Path, case: Case) -> None:
    for other, values, value in _conditions(entry.get("x-needed-with", {}), path, case):
        if value in values:
            message = f"{other}: {described(value)} needs {key}"
            position = case.key_position(*path[:-1], other)
            case.findings.error("S308", message, path, position, f"add `{example_line(key, entry)}`")


def _conditions(rule: Schema, path: Path, case: Case) -> Iterator[tuple[str, list[Any], Any]]:
    """(the other key, the values named for it, its effective value), for each other key without an error."""
    for other, values in rule.items():
        address: Path = tuple(other.split(".")) if "." in other else (*path[:-1], other)
        if case.findings.usable(address):
            yield other, list(values), _other(other, path, case)


def _names(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    known = case.metrics if entry["x-names"] == "metric" else case.builders
    if known is None or not isinstance(node, Scalar) or not isinstance(node.value, str) or node.value in known:
        return
    if entry["x-names"] == "metric":
        hint = suggestion(node.value, known, "metrics")
        case.findings.error("S309", f"there is no metric {scalar_text(node)}", path, node.position, hint)
        return
    hint = suggestion(node.value, known, "datasets that can be built")
    hint += f"\na file of your own: {key}: {{path: data/rows.jsonl, format: prompt_completion}}"
    case.findings.error("S306", f"there is no dataset {scalar_text(node)}", path, node.position, hint)


_RULES: dict[str, Callable[[str, Node, Schema, Path, Case], None]] = {
    "x-less-than": _less_than, "x-shorter-than": _shorter_than, "x-at-most": _at_most, "x-divides": _divides, "x-multiple-of": _multiple_of, "x-multiples": _multiples,
    "x-ends-by": _ends_by, "x-contains": _contains, "x-typical": _typical, "x-only-with": _only_with, "x-only-with-any": _only_with_any,
    "x-requires": _requires, "x-only-above": _only_above, "x-names": _names,
}  # fmt: skip
