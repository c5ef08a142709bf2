"""One line of a person's rows, field by field: a value, or a finding that says why there is none.

In: a :class:`engine.data.jsonl.Line` and the mapping from our fields to the person's keys. Out: checked values, findings,
and the paths of all keys that nothing was read from. Shared by the readers of the three formats.

    reader = RowReader(line, {"prompt": "question"}, findings)
    reader.text("prompt")                 # the text under "question", or "" after reporting
    reader.count_others(step, ("i", "type", "content"), "steps[]")
    reader.unused(("question",))          # ("source", "steps[].note")
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from engine.data.jsonl import JsonlFindings, Line, json_kind
from engine.data.model import CONTROL_LITERALS, TURN_LITERALS
from engine.data.text import excerpt
from engine.errors import did_you_mean

MISSING, WRONG_TYPE, BLANK_TEXT, CONTROL, NOT_TRAINED = 20, 21, 22, 23, 34
# What people call the switch that keeps a text from being trained, without case, hyphens and underscores.
SWITCHES = frozenset(
    {"weight", "lossweight", "trainweight", "train", "training", "trainable", "trained", "istrain", "istrained",
     "loss", "lossmask", "trainmask"}
)  # fmt: skip
NO_WORDS = frozenset({"false", "no", "off", "0"})


def is_switched_off(key: str, value: object) -> bool:
    """Whether a key is named like a switch of training and its value says no, for the whole text or a part of it.

    >>> is_switched_off("trainable", False), is_switched_off("Weight", 0), is_switched_off("weight", 72.5)
    (True, True, False)
    >>> is_switched_off("loss_mask", [1, 0]), is_switched_off("source", False)
    (True, False)
    """
    if key.casefold().replace("_", "").replace("-", "") not in SWITCHES:
        return False
    values = value if isinstance(value, list) else [value]
    return any(
        one.strip().casefold() in NO_WORDS if isinstance(one, str) else one is not None and one == 0 for one in values
    )


class RowReader:
    """One line and the fields mapped to it; every method returns a value or reports why it cannot."""

    def __init__(self, line: Line, names: Mapping[str, str], findings: JsonlFindings) -> None:
        self.line, self.names, self.findings = line, names, findings
        self.before = findings.total
        self._others: dict[str, None] = {}
        self._refuse_switches(line.value, names.values(), "", "")

    @property
    def is_good(self) -> bool:
        """Nothing was reported about this line."""
        return self.findings.total == self.before

    def report(self, number: int, message: str, key: str, hint: str, *, path: str = "") -> None:
        """One finding; the caret is at the row's ``key``, ``path`` names the place inside it."""
        column, width = self.line.span(key)
        self.findings.add(
            number,
            message,
            line=self.line.number,
            text=self.line.text,
            column=column,
            width=width,
            path=path or key,
            hint=hint,
        )

    def get(self, name: str) -> Any:
        """The value of our field, or None after reporting that it is missing."""
        key = self.names[name]
        if key in self.line.value:
            return self.line.value[key]
        near = did_you_mean(key, self.line.value)
        hint = f"the row has: {', '.join(excerpt(k, 30) for k in list(self.line.value)[:8]) or 'no key at all'}"
        if near:
            hint = f'did you mean "{near}"? Fix the row, or map it: fields: {{{name}: {near}}}'
        self.report(MISSING, f'the row has no "{key}"', near or key, hint, path=key)
        return None

    def text(self, name: str) -> str:
        """A text that is not blank, or "" after reporting."""
        key = self.names[name]
        value = self.get(name)
        return "" if value is None and key not in self.line.value else self.check_text(value, key, key)

    def check_text(self, value: object, key: str, path: str) -> str:
        """The same for a value at ``path`` inside ``key``."""
        if not isinstance(value, str):
            hint = f'write it in quotes: "{value}"' if isinstance(value, int | float) else "write a text"
            self.report(WRONG_TYPE, f'"{path}" is {json_kind(value)}, not a text', key, hint, path=path)
            return ""
        if not value.strip():
            self.report(BLANK_TEXT, f'"{path}" is empty', key, "delete the row, or fill it in", path=path)
            return ""
        self._refuse_control(value, key, path, CONTROL_LITERALS)
        return value

    def _refuse_control(self, value: str, key: str, path: str, literals: tuple[str, ...]) -> None:
        for literal in literals:
            if literal in value:
                message = f'"{path}" contains "{literal}", which a tokenizer reads as a control token'
                hint = "remove it: the engine adds <bos>, <eos> and the turn markers itself, once"
                self.report(CONTROL, message, key, hint, path=path)

    def refuse_turns(self, value: str, key: str, path: str) -> None:
        """Turn markers are allowed in a prompt that a person renders, never in a chat message."""
        self._refuse_control(value, key, path, TURN_LITERALS)

    def _refuse_switches(self, value: Mapping[str, object], known: Collection[str], path: str, key: str) -> None:
        """A key that nothing is read from and that says "not to be trained" would be trained all the same."""
        for name in value:
            if name not in known and is_switched_off(name, value[name]):
                place = f"{path}.{name}" if path else name
                message = f'"{place}" says not to train this, and nothing is read from that key: it would be trained'
                hint = 'delete what shall not be trained, or rename the key if it means something else; of a message "weight": 0 is read'
                self.report(NOT_TRAINED, message, key or name, hint, path=place)

    def count_others(
        self, value: Mapping[str, object], known: Collection[str], path: str, *, is_trained: bool = True
    ) -> None:
        """Remember the keys of an object inside the row that are not ``known``: ``path`` has [] for any position.

        ``is_trained``: its text will be; a key that says otherwise is refused (D134).
        """
        if is_trained:
            self._refuse_switches(value, known, path, path.partition("[")[0])
        self._others.update((f"{path}.{key}", None) for key in value if key not in known)

    def unused(self, known: Collection[str]) -> tuple[str, ...]:
        """The paths of all keys that nothing is read from, each once: the row's own but ``known``, then those inside it."""
        return (*(key for key in self.line.value if key not in known), *self._others)

    @property
    def default_id(self) -> str:
        """The id of a row without one."""
        return f"line-{self.line.number}"
