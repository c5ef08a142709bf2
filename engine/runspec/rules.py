"""Rules between keys, as annotations in the schemas: a step of a plug-in can use them like a built-in one.

    below: other            this number lies below that one        (warmup_steps, num_train_steps)
    atMost: other           this number is that one or less        (seq_len, model.config.max_position_embeddings)
    endsBy: [first, last]   this many from that first one on end with that last one or before (profile.steps)
    holds: […]              this list has all of these in it (evidence.files)
    watches: true           no result depends on it: no part of a fingerprint (engine.pipeline.plan)
    divides: other          that number is a multiple of this one  (num_key_value_heads, num_attention_heads)
    onlyWith: {other: […]}  writing this key makes sense only where the other one has one of these values
    onlyWithAny: {other: […]}  the same, but one of several other keys is enough
    onlyAbove: {other: 0}   writing this key makes sense only where the other one is above that number
    neededWith: {other: […]}  this key must be written there
    asks: {value: {other: […]}}  this key may have that value only where the other one has one of these
    isMultipleOf: other     this number is a multiple of that one  (keep_every_steps, save_every_steps)
    multiples: {one: other} where this key is written, one is a multiple of other (both beside it)
    usual: {from, to, …}    outside is a warning, with its reason below or above
    names: metric           the text is a name of that family: metric or builder

``other`` is a key beside this one, one beside the mapping this one is in (``../num_train_steps``), or a dotted address
from the top of the run-spec. Draft-07 ignores such words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.runspec.findings import Case, said, suggestion
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
        for word, rule in _RULES.items():
            if word in entry:
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
    found: Schema = schema.get("items", {}) if isinstance(part, int) else properties(schema).get(part, {})
    return found


def _number(name: str, path: Path, case: Case) -> float | None:
    value = _other(name, path, case)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _below(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["below"], path, case), _value(node)
    if other is not None and value is not None and value >= other:
        message = f"{key} is {number_text(value)}, and {entry['below']} only {number_text(other)}"
        case.findings.error("S311", message, path, node.place, f"{key} must be below {entry['below']}")


def _at_most(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["atMost"], path, case), _value(node)
    if other is not None and value is not None and value > other:
        named = entry["atMost"].removeprefix(ABOVE)
        message = f"{key} is {number_text(value)}, and {named} only {number_text(other)}"
        case.findings.error("S314", message, path, node.place, f"lower {key}, or raise {named}")


def _ends_by(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    start, end = entry["endsBy"]
    first, last, count = _number(start, path, case), _number(end, path, case), _value(node)
    if first is None or last is None or count is None or first > last or first + count - 1 <= last:
        return  # a first one beyond the last is atMost's to say
    named = end.removeprefix(ABOVE)
    message = (
        f"{start} {number_text(first)} and {key} {number_text(count)} end with {number_text(first + count - 1)}, "
        f"and {named} is {number_text(last)}"
    )
    hint = f"{key}: {number_text(last - first + 1)} would end there"
    case.findings.error("S314", message, path, node.place, hint)


def _holds(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    there = plain(node) if isinstance(node, Items) else []
    missing = [name for name in entry["holds"] if name not in there]
    if missing:
        message = f"{key} leaves out {', '.join(missing)}, and no evidence passes `runspec verify` without"
        case.findings.error("S318", message, path, node.place, f"add {', '.join(missing)}, or leave {key} out")


def _divides(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = _number(entry["divides"], path, case), _value(node)
    if other is not None and value and other % value:
        message = f"{entry['divides']} ({number_text(other)}) is not a multiple of {key} ({number_text(value)})"
        case.findings.error("S310", message, path, node.place, entry.get("description"))


def _is_multiple(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    other, value = entry["isMultipleOf"], _value(node)
    divisor = _number(other, path, case)
    if value is not None and divisor and value % divisor:
        message = f"{key} ({number_text(value)}) is not a multiple of {other} ({number_text(divisor)})"
        case.findings.error("S310", message, path, node.place, f"{_near(value, divisor)} would be one")


def _multiples(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if _value(node) is None:
        return
    for one, other in entry["multiples"].items():
        value, divisor = _number(one, path, case), _number(other, path, case)
        if value and divisor and value % divisor:
            message = f"{key} asks that {one} ({number_text(value)}) is a multiple of {other} ({number_text(divisor)})"
            case.findings.error("S310", message, path, case.key_place(*path), f"write {other}: {number_text(value)}")


def _near(value: float, divisor: float) -> str:
    """The multiples on both sides.

    >>> _near(110, 25), _near(10, 25)
    ('100 or 125', '25')
    """
    below = value // divisor * divisor
    return " or ".join(number_text(found) for found in (below, below + divisor) if found)


def _usual(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    value, usual = _value(node), entry["usual"]
    low, high = usual.get("from"), usual["to"]
    if value is None or (low or 0) <= value <= high:
        return
    span = f"at most {number_text(high)}" if low is None else f"{number_text(low)} to {number_text(high)}"
    reason = usual["above" if value > high else "below"]
    message = f"{key} is {number_text(value)}; {span} is usual"
    case.findings.warn("S312", message, path, node.place, f"{reason}\ncheck the exponent")


def _value(node: Node) -> float | None:
    value = node.value if isinstance(node, Scalar) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _only_with(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return  # "none of it" may be said anywhere
    for other, allowed, value in _conditions(entry["onlyWith"], path, case):
        if value not in allowed:
            listed = listing([f"{other}: {described(one)}" for one in allowed])
            now = f"; here it is {described(value)}" if value is not None else ""
            message = f"{key} has a meaning with {listed} only{now}"
            case.findings.error("S307", message, path, case.key_place(*path), f"remove it, or write {listed}")


def _only_with_any(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return
    conditions = list(_conditions(entry["onlyWithAny"], path, case))
    if len(conditions) < len(entry["onlyWithAny"]) or any(value in allowed for _, allowed, value in conditions):
        return
    listed = listing([f"{other}: {described(one)}" for other, allowed, _ in conditions for one in allowed])
    now = ", ".join(f"{other}: {described(value)}" for other, _, value in conditions)
    message = f"{key} has a meaning with {listed} only; here it is {now}"
    case.findings.error("S307", message, path, case.key_place(*path), f"remove it, or write {listed}")


def _asks(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    said_value = node.value if isinstance(node, Scalar) else None
    for other, allowed, value in _conditions(entry["asks"].get(said_value, {}), path, case):
        if value not in allowed:
            wanted = listing([f"{other}: {described(one)}" for one in allowed])
            message = f"{key}: {said_value} goes with {wanted} only; here it is {described(value)}"
            case.findings.error("S317", message, path, node.place, f"write {wanted}, or leave {key} out")


def _only_above(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    if isinstance(node, Scalar) and node.value is None:
        return
    for other, least in entry["onlyAbove"].items():
        value = _number(other, path, case)
        if value is not None and value <= least:
            message = (
                f"{key} has a meaning with {other} above {number_text(least)} only; here it is {number_text(value)}"
            )
            hint = f"remove it, or raise {other}"
            case.findings.error("S307", message, path, case.key_place(*path), hint)


def _needed(key: str, entry: Schema, path: Path, case: Case) -> None:
    for other, wanted, value in _conditions(entry.get("neededWith", {}), path, case):
        if value in wanted:
            message = f"{other}: {described(value)} needs {key}"
            place = case.key_place(*path[:-1], other)
            case.findings.error("S308", message, path, place, f"add `{example_line(key, entry)}`")


def _conditions(rule: Schema, path: Path, case: Case) -> Iterator[tuple[str, list[Any], Any]]:
    """(the other key, its values, its effective value), where the other key is sound."""
    for other, values in rule.items():
        address: Path = tuple(other.split(".")) if "." in other else (*path[:-1], other)
        if case.findings.usable(address):
            yield other, list(values), _other(other, path, case)


def _names(key: str, node: Node, entry: Schema, path: Path, case: Case) -> None:
    known = case.metrics if entry["names"] == "metric" else case.builders
    if known is None or not isinstance(node, Scalar) or not isinstance(node.value, str) or node.value in known:
        return
    if entry["names"] == "metric":
        hint = suggestion(node.value, known, "metrics")
        case.findings.error("S309", f"there is no metric {said(node)}", path, node.place, hint)
        return
    hint = suggestion(node.value, known, "datasets that can be built")
    hint += f"\na file of your own: {key}: {{path: data/rows.jsonl, format: prompt_completion}}"
    case.findings.error("S306", f"there is no dataset {said(node)}", path, node.place, hint)


_RULES: dict[str, Callable[[str, Node, Schema, Path, Case], None]] = {
    "below": _below, "atMost": _at_most, "divides": _divides, "isMultipleOf": _is_multiple, "multiples": _multiples,
    "endsBy": _ends_by, "holds": _holds, "usual": _usual, "onlyWith": _only_with, "onlyWithAny": _only_with_any,
    "asks": _asks, "onlyAbove": _only_above, "names": _names,
}  # fmt: skip
