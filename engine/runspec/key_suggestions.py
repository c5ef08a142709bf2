"""Where an unknown key belongs. Computed from the schemas; by hand only what other tools have and no schema (spelling.other_tools).

hint_for("learning_rate", (), base_schema(), case)
# (None, 'it belongs under `with:` of a train_sft step (here: "train")')
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import MOST_LISTED, did_you_mean, listed
from engine.runspec.findings import Case
from engine.runspec.kinds import Schema, base_schema, properties, step_schema
from engine.runspec.nodes import Path
from engine.runspec.spelling.other_tools import hint_of

MOST_SECTIONS = 3
CLOSE = 0.8


def hint_for(key: str, here: Path, schema: Schema, case: Case) -> tuple[str | None, str]:
    """(the key of this section that was meant, or None; the hint: that key, the right section, or the known keys)."""
    known = properties(schema)
    for name, entry in known.items():
        if key.casefold().replace("-", "_") in _names(name, entry):
            return name, f'here it is called "{name}"'
    elsewhere_only = hint_of(key)
    if elsewhere_only is not None:
        return None, elsewhere_only
    if ":" in key:
        return None, f"a space follows the colon: {key.replace(':', ': ', 1)}"
    near, sections = did_you_mean(key, known), list(_sections(key, here, case))
    if sections:
        belongs = f"it belongs {' or '.join(sections[:MOST_SECTIONS])}"
        if near and _is_close(key, near):
            return near, f'did you mean "{near}"?\nor: {belongs}'
        return None, belongs
    if near:
        return near, f'did you mean "{near}"?'
    elsewhere = _near_elsewhere(key, here, case)
    if elsewhere:
        return None, elsewhere
    return None, _known_here(list(known), here, case)


def _known_here(known: list[str], here: Path, case: Case) -> str:
    """The keys of a section; of a section with many, how many there are and the command that prints them."""
    if not known:
        return "nothing is known here: remove it"
    if len(known) <= MOST_LISTED:
        return f"known here: {listed(known)}"
    own = next((step for step in case.steps if step.path == here[:2] and step.kind is not None), None)
    command = f"runspec schema {own.kind.kind}" if own and own.kind else "runspec docs spec"
    return f"{len(known)} keys are known here: `{command}` prints them"


def _names(name: str, entry: Schema) -> set[str]:
    """The names by which people know a key: its own, those of other tools, those it had before."""
    return {name.casefold(), *map(str.casefold, (*entry.get("x-aliases", ()), *entry.get("x-former-names", ())))}


def _is_close(word: str, near: str) -> bool:
    """Nearer than "did you mean" needs: a typing error, not a similar word."""
    import difflib

    return difflib.SequenceMatcher(None, word.casefold(), near.casefold()).ratio() >= CLOSE


def _near_elsewhere(key: str, here: Path, case: Case) -> str | None:
    everywhere = dict.fromkeys(name for _, names in _every_section(case) for name in names)
    near = did_you_mean(key, everywhere)
    if near is None or not _is_close(key, near):
        return None
    sections = list(_sections(near, here, case))
    return f'did you mean "{near}"? It belongs {" or ".join(sections[:MOST_SECTIONS])}' if sections else None


def _every_section(case: Case) -> Iterator[tuple[str, Schema]]:
    """(what people call the section, its known keys), in the document's own order."""
    base = properties(base_schema())
    yield "at the top level", base
    for name, entry in base.items():
        if properties(entry):
            yield f'in "{name}"', properties(entry)
        for inner, deeper in properties(entry).items():
            if properties(deeper):
                yield f'in "{name}.{inner}"', properties(deeper)
    yield "in a step itself, beside `uses`", properties(step_schema())
    for name, kind in case.kinds.items():
        yield f"under `with:` of a {name} step", properties(kind.schema)


def _sections(key: str, here: Path, case: Case) -> Iterator[str]:
    own = next((step for step in case.steps if step.path == here[:2]), None)
    if own is not None and own.kind is not None and len(here) == 2 and key in properties(own.kind.schema):
        yield "under `with:` of this step"
        return
    kinds = [name for name, kind in case.kinds.items() if key in properties(kind.schema)]
    if not kinds or (own is not None and own.kind is not None and own.kind.kind in kinds):
        kinds = [name for name in kinds if own is None or own.kind is None or name != own.kind.kind]
    for section, names in _every_section(case):
        if key in names and not section.startswith("under") and section != _name_of(here):
            yield section
    if kinds:
        used = [f'"{step.id}"' for step in case.steps if step.kind and step.kind.kind in kinds and step.id]
        steps = f" (here: {', '.join(used[:MOST_SECTIONS])})" if used else ""
        yield f"under `with:` of a {' or '.join(kinds[:MOST_SECTIONS])} step{steps}"


def _name_of(here: Path) -> str:
    """The section that a path lies in, as :func:`_every_section` names it."""
    if not here:
        return "at the top level"
    if here[0] == "steps":
        return "in a step itself, beside `uses`" if len(here) == 2 else ""
    return f'in "{".".join(map(str, here))}"'
