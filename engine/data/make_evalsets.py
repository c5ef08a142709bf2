"""Writes the shipped eval sets: ``python -m engine.data.make_evalsets [FOLDER]`` (default: evalsets).

In: the tables of :mod:`engine.data.evalsets`. Out: ``eval_v2.jsonl`` and
``quickstart.jsonl``, after a second derivation has confirmed each answer. A test compares the output
with the committed files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.canonical import jsonl_bytes, write_atomic
from engine.data.evalsets import eval_v2, quickstart
from engine.data.model import EvalItem
from engine.data.recheck import derive
from engine.data.recheck.eval_v2 import derive_item
from engine.errors import Diagnostic, RunFailed

QUICK_TASKS = {
    "addition": "quickstart.add",
    "subtraction": "quickstart.subtract",
    "formatting": "quickstart.reverse",
}


def second_answer(item: EvalItem) -> str | None:
    """The answer to a shipped item by the second derivation; None where there is none for it."""
    if item.id.startswith("v2-"):
        return derive_item(item.category, int(item.id.rsplit("-", 1)[1]) - 1, item.prompt)
    return derive(QUICK_TASKS[item.category], item.prompt)


def make() -> dict[str, bytes]:
    """File name → bytes. Raises RunFailed where the two derivations of an answer disagree."""
    sets: dict[str, Sequence[EvalItem]] = {
        "eval_v2.jsonl": eval_v2.items(),
        "quickstart.jsonl": quickstart.items(),
    }
    wrong = [
        Diagnostic("D313", f"{item.id}: the answer is {second_answer(item)}, not {item.expected_answer}")
        for items in sets.values()
        for item in items
        if second_answer(item) != item.expected_answer
    ]
    if wrong:
        raise RunFailed.of(wrong)
    return {name: jsonl_bytes(item.as_json() for item in items) for name, items in sets.items()}


def main(arguments: Sequence[str]) -> None:
    """Write both files into the folder named, or into ``evalsets``."""
    folder = Path(arguments[0] if arguments else "evalsets")
    for name, data in make().items():
        write_atomic(folder / name, data)
        sys.stdout.write(f"{folder / name}: {len(data.splitlines())} items\n")


if __name__ == "__main__":
    main(sys.argv[1:])
