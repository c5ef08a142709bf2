"""The files of a bundle as values, parsed when a check first reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from engine.canonical import JsonObject, canonical_json
from engine.evidence.bundle import Bundle
from engine.evidence.checks.rerun import Rerun
from engine.evidence.signing.sigstore_bundle import TrustedIdentity
from engine.evidence.signing.trust import TrustedKeys
from engine.evidence.signing.weights import Weights
from engine.evidence.witness import Witness
from engine.scoring import objects_of

TOLERANCE = 1e-12
OTHER_FORM = "is not written as the engine writes it: it has other spaces, line ends, escapes or spellings of numbers"
Status = Literal["pass", "fail", "n/a"]
Answer = tuple[Status, str]  # of a check: and the detail that says why


@dataclass(frozen=True, slots=True)
class Reader:
    """What a reader brings to the evidence: keys and an identity to trust, a platform's output as it was downloaded, what was run
    again, the weights."""

    trust: TrustedKeys | None = None
    witness: Witness | None = None
    rerun: Rerun | None = None
    identity: TrustedIdentity | None = None
    weights: Weights | None = None


NOBODY = Reader()


@dataclass(frozen=True)
class Evidence:
    """The files of a bundle, each parsed once. A missing or broken one raises :class:`Broken`."""

    bundle: Bundle
    archive: Path | None = None  # the zip itself, where the evidence is one
    reader: Reader = NOBODY

    def data(self, name: str) -> bytes:
        """The bytes of a file."""
        if name not in self.bundle.files:
            raise Broken(f"{name} is missing")
        return self.bundle.files[name]

    def text(self, name: str) -> str:
        """A file as text."""
        try:
            return self.data(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken(f"{name} is not UTF-8") from error

    def json(self, name: str) -> JsonObject:
        """A JSON file that is an object."""
        try:
            value = _ONCE.decode(self.text(name))
        except (ValueError, RecursionError) as error:
            raise Broken(f"{name} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Broken(f"{name} is not a JSON object")
        return value

    def rows(self, name: str) -> Sequence[JsonObject]:
        """The objects of a JSONL file."""
        try:
            rows = _rows(self.text(name))
        except (ValueError, RecursionError) as error:
            raise Broken(f"{name} is not JSONL: {error}") from error
        if not all(isinstance(row, dict) for row in rows):
            raise Broken(f"{name} has a line that is not an object")
        return rows

    @cached_property
    def manifest(self) -> JsonObject:
        """run_manifest.json."""
        return self.json("run_manifest.json")

    @cached_property
    def summary(self) -> JsonObject:
        """eval_summary.json."""
        return self.json("eval_summary.json")

    @cached_property
    def record(self) -> JsonObject:
        """run_record.json."""
        return self.json("run_record.json")

    @cached_property
    def metrics(self) -> Sequence[JsonObject]:
        """metrics.jsonl."""
        return self.rows("metrics.jsonl")

    def step(self, uses: str) -> JsonObject:
        """The last step of this kind in the record."""
        steps = [step for step in self.record["steps"] if step["uses"] == uses]
        if not steps:
            raise Broken(f"run_record.json has no {uses} step")
        step: JsonObject = steps[-1]
        return step

    @property
    def worded_by_author(self) -> list[str]:
        """Rendered files that a template of the project words, which is among the files; [] where the record has none."""
        templates = self.record.get("templates")
        rows = templates.items() if isinstance(templates, dict) else ()
        return sorted(name for name, used in rows if isinstance(used, dict) and used.keys() & self.bundle.files.keys())

    @property
    def _eval_set(self) -> str | JsonObject:
        """What the score step recorded of the eval set: its digest, or {content, on_duplicate} (pipeline.section_digests)."""
        recorded: str | JsonObject = self.step("score")["ingredients"]["spec"]["eval_set"]
        return recorded

    @property
    def eval_set_sha256(self) -> object:
        """Digest of the file that was scored on."""
        return self._eval_set if isinstance(self._eval_set, str) else self._eval_set["content"]

    @property
    def drops_repeated_items(self) -> bool:
        """Whether items that repeat an earlier item's question were left out."""
        return not isinstance(self._eval_set, str) and self._eval_set["on_duplicate"] == "drop"


def _once(pairs: list[tuple[str, object]]) -> JsonObject:
    """The pairs as an object; a key that is there twice would be read in one way here, in another elsewhere."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!a:.60} is there twice in one object")
    return value


_ONCE = json.JSONDecoder(object_pairs_hook=_once)  # made once: json.loads makes one for each line


# Several checks, and the page that one of them makes again, ask for the same: what is kept is of the last evidence.


@lru_cache(maxsize=3)
def _rows(text: str) -> Sequence[JsonObject]:
    rows = objects_of(text)
    return [_ONCE.decode(line) for line in text.split("\n") if line] if rows is None else rows


def answer(problems: Sequence[str], detail: str) -> Answer:
    """Fail with the first problems, or pass with the detail."""
    if not problems:
        return "pass", detail
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "fail", "; ".join(problems[:3]) + more


class Broken(Exception):
    """A file that a check needs is missing or cannot be read; the check fails with this message."""


class NeedsEngine(Exception):
    """A comparison that only `runspec verify` can make: verify.py, which has no library, reads the plain part of Jinja."""


def equal_values(value: object, expected: object) -> bool:
    """Equal in structure and text; numbers of one kind and sign within the tolerance: -0.0 is not 0.0."""
    if isinstance(expected, Mapping):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(equal_values(value[key], expected[key]) for key in expected)
        )
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        return value == expected
    if not isinstance(value, int | float) or type(value) is not type(expected):
        return False
    return abs(value - expected) <= TOLERANCE and math.copysign(1, value) == math.copysign(1, expected)


def changes(expected: object, found: object, path: str = "") -> list[str]:
    """The dotted paths at which two JSON values differ, each with both; 1, 1.0 and true are three values.

    >>> changes({"seed": 42, "packing": True}, {"seed": 43, "packing": 1})
    ['packing: True -> 1', 'seed: 42 -> 43']
    """
    if _is_equal(expected, found):
        return []
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        found_changes: list[str] = []
        for key in sorted({*expected, *found}):
            inner = f"{path}.{key}" if path else str(key)
            if key not in expected or key not in found:
                found_changes.append(f"{inner} is {'unknown' if key in found else 'missing'}")
            else:
                found_changes += changes(expected[key], found[key], inner)
        return found_changes
    if canonical_json(expected) == canonical_json(found):
        return []
    return [f"{path}: {_short(expected)} -> {_short(found)}"]


_TOLD_BY_KIND = (str, int, bool, type(None))  # equal values of one of these kinds are the same


def _is_equal(expected: object, found: object) -> bool:
    """Whether two values are the same, as far as that can be told without writing their JSON."""
    if type(expected) is not type(found) or expected != found:
        return False
    if isinstance(expected, dict) and isinstance(found, dict):
        for (
            key,
            value,
        ) in expected.items():  # 20,000 rows of eleven values: a call for each would cost more than all else here
            other = found[key]
            if type(value) is not type(other) or not (type(value) in _TOLD_BY_KIND or _is_equal(value, other)):
                return False
        return True
    return type(expected) in _TOLD_BY_KIND or (isinstance(expected, float) and expected != 0)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…"


def leaves(value: object, path: str = "") -> list[tuple[str, object]]:
    """(dotted path, value) of everything in a JSON value that is neither object nor list; not under not_applicable."""
    if isinstance(value, dict):
        return [
            leaf
            for key, child in value.items()
            if key != "not_applicable"
            for leaf in leaves(child, f"{path}.{key}" if path else key)
        ]
    if isinstance(value, list):
        return [leaf for index, child in enumerate(value) for leaf in leaves(child, f"{path}.{index}")]
    return [(path, value)]
