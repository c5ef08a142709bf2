"""How the steps fit together: kinds, ids, ``needs``, and that a step makes every input (S201 to S205, S315)."""

from __future__ import annotations

from engine.runspec.findings import Case, Step, suggestion
from engine.runspec.nodes import Items, text_of


def check_steps(case: Case) -> None:
    """Add a finding for every step that cannot run where it is written."""
    steps = list(case.steps)
    _check_kinds(steps, case)
    _check_ids(steps, case)
    for index, step in enumerate(steps):
        _check_needs(step, steps[:index], steps, case)
    _check_inputs(steps, case)
    for index, step in enumerate(steps):
        _check_ahead(step, steps[:index], steps[index + 1 :], case)


def _check_kinds(steps: list[Step], case: Case) -> None:
    for step in steps:
        uses = case.good_text(*step.path, "uses")
        if uses and step.kind is None:
            hint = suggestion(uses, case.kinds, "kinds of steps") + "\na package of your own can bring more"
            path = (*step.path, "uses")
            case.findings.error("S201", f'there is no kind of step "{uses}"', path, step.position("uses"), hint)


def _check_ids(steps: list[Step], case: Case) -> None:
    first: dict[str, Step] = {}
    for step in steps:
        if step.id is None:
            continue
        if step.id in first:
            position = first[step.id].position("id")
            hint = f"the first one is at {position.source.name}:{position.line}:{position.column}; give this one another id"
            case.findings.error(
                "S202", f'two steps have the id "{step.id}"', (*step.path, "id"), step.position("id"), hint
            )
        first.setdefault(step.id, step)


def _check_needs(step: Step, before: list[Step], steps: list[Step], case: Case) -> None:
    needs = step.node.get("needs")
    earlier = {other.id: other for other in before if other.id}
    makers: dict[str, str] = {}
    for index, item in enumerate(needs.items if isinstance(needs, Items) else ()):
        name, path = text_of(item), (*step.path, "needs", index)
        if name is None or not case.findings.usable(path):
            continue
        if name not in earlier:
            code, message, hint = _bad_need(step, name, list(earlier), steps)
            case.findings.error(code, message, path, item.position, hint)
            continue
        kind = earlier[name].kind
        if kind is not None and kind.makes in makers:
            message = f'both "{makers[kind.makes]}" and "{name}" make a {kind.makes}'
            hint = f"{step.name} takes one: keep the one that is meant"
            case.findings.error("S206", message, path, item.position, hint)
        elif kind is not None:
            makers[kind.makes] = name


def _bad_need(step: Step, name: str, earlier: list[str], steps: list[Step]) -> tuple[str, str, str]:
    if name == step.id:
        return "S204", f"{step.name} needs itself", "remove it"
    if any(other.id == name for other in steps):
        return "S204", f'{step.name} needs "{name}", which comes later', "steps run from top to bottom: move it up"
    hint = suggestion(name, earlier, "earlier steps") or "no step comes before this one"
    return "S203", f'{step.name} needs "{name}", and there is no such step', hint


def _check_inputs(steps: list[Step], case: Case) -> None:
    made: set[str] = set()
    for step in steps:
        if step.kind is None:
            return  # what it makes is unknown; every later finding might be wrong
        for type_ in step.kind.takes:
            if type_ in made:
                continue
            makers = sorted(name for name, kind in case.kinds.items() if kind.makes == type_)
            later = [other for other in steps if other.kind and other.kind.kind in makers and other.index > step.index]
            hint = f"put a {' or '.join(makers)} step before it" if makers else f"no kind of step makes a {type_}"
            if later:
                hint = f"{later[0].name} makes one: move it before {step.name}"
            message = f"{step.name} takes a {type_}, and no earlier step makes one"
            case.findings.error("S205", message, (*step.path, "uses"), step.position("uses"), hint)
            made.add(type_)  # reported once
        made.add(step.kind.makes)


def _check_ahead(step: Step, before: list[Step], after: list[Step], case: Case) -> None:
    if step.kind is None or not step.kind.looks_ahead:
        return
    later = {other.kind.kind if other.kind else None for other in after}
    first = step.kind.looks_ahead[0]  # the job that it tries out; the others only add to it
    if first in later or None in later or first not in case.kinds:
        return
    target = next((other for other in before if other.kind and other.kind.kind == first), None)
    hint = f"move it before {target.name}" if target else f"put a {first} step after it, or remove it"
    message = f"{step.name} ({step.kind.kind}) looks ahead to a {first} step, and none follows"
    case.findings.error("S315", message, (*step.path, "uses"), step.position("uses"), hint)
