"""The options of ``runspec run``: the command table has them from here, and a recorded command is read by them.

In: the words of a recorded command. Out: why it is no command that this engine runs. A command is shown wherever evidence is read, so
each of its words must be one that was obeyed.

    >>> list(unread_words(["run", "a.yaml", "train.seed=1", "--force", "train"], ["train"]))
    []
    >>> list(unread_words(["run", "a.yaml", "--on", "8xH100"], ["train"]))
    ['no evidence is of a run with --on', '8xH100 is neither an option, an override nor the run-spec']
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*=")  # a dotted path, an equals sign


class RunOption(NamedTuple):
    """One option; without ``value`` it is a switch. Each value is the id of a step."""

    name: str
    help: str
    value: str = ""
    repeat: bool = False


QUIET = RunOption("--quiet", "no progress; errors are still printed")
PLAIN = RunOption("--plain", "plain lines instead of the live display of a terminal; notebooks get them by themselves")
RUN_OPTIONS: Sequence[RunOption] = (
    RunOption("--from", "begin at this step", "ID"),
    RunOption("--to", "stop after this step (no evidence is rendered)", "ID"),
    RunOption("--only", "this step alone (no evidence is rendered)", "ID"),
    RunOption("--force", "run this step again although nothing changed; repeatable; or: all", "ID", repeat=True),
    RunOption("--commit", "commit the evidence folder, and nothing else, when all is verified"),
    QUIET,
    PLAIN,
)
_KNOWN = {option.name: option for option in (*RUN_OPTIONS, RunOption("--json", "one JSON document"))}


def unread_words(words: Sequence[str], ids: Collection[str]) -> Iterator[str]:
    """What ``runspec`` would not take of these words, the command's own name first. ``ids``: of the steps."""
    if list(words[:1]) != ["run"]:
        yield f"the command is {words[0] if words else ''!r:.40}, and evidence is of runspec run"
    rest, specs = list(words[1:]), 0
    seen: set[str] = set()
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        option = _KNOWN.get(name)
        if word == "--":
            specs += len([other for other in rest if not OVERRIDE.match(other)])
            break
        if word.startswith("-") and option is None:
            yield f"no evidence is of a run with {name:.40}"
        elif option is not None:
            value = value if sign else rest.pop(0) if option.value and rest else ""
            yield from _misused(option, value, bool(sign), ids, seen)
            seen.add(name)
        elif not specs:
            specs = 1
        elif not OVERRIDE.match(word):
            yield f"{word:.60} is neither an option, an override nor the run-spec"
    if specs != 1:
        yield f"the command names {specs or 'no'} run-spec{'s' * (specs > 1)}"


def _misused(option: RunOption, value: str, has_sign: bool, ids: Collection[str], seen: set[str]) -> Iterator[str]:
    if not option.value:
        if has_sign:
            yield f"{option.name} has no value, and the command gives it one"
    elif value not in ids and not (option.repeat and value == "all"):
        yield f"{option.name} names {value!r:.40}, which is not a step of the run-spec"
    if option.name in seen and not option.repeat and option.value:
        yield f"{option.name} is there twice"
