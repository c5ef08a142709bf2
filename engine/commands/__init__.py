"""The commands: each is one function from parsed arguments to a :class:`Reply`.

A new command is a function and one entry in :data:`engine.commands.table.COMMANDS`. A command
never prints and never exits: it returns its answer, as text and as a JSON document, or raises RunspecError.
:mod:`engine.cli` prints one of the two and turns exceptions into exit codes.

    >>> Reply({"ok": True}, "all is well").exit_code
    0
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.canonical import JsonMapping
from engine.errors import Diagnostic, InputInvalid, did_you_mean, listed
from engine.printable import columns


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: ``document`` for ``--json``, ``text`` for a person, ``problems`` for standard error.

    ``styled``: the text has colours of ours, and no word of a stranger.
    """

    document: JsonMapping
    text: str = ""
    exit_code: int = 0
    problems: tuple[Diagnostic, ...] = ()
    styled: bool = False


CommandFunction = Callable[[Namespace], Reply]


def pick(kind: str, name: str, known: Iterable[str], code: str = "U110", or_else: str = "") -> str:
    """``name`` where it is one of the known; InputInvalid with did-you-mean otherwise.

    ``kind`` says what the name is for, say "preset". ``or_else``: the hint where nothing is near, instead of all names.
    """
    names = sorted(known)
    if name in names:
        return name
    near = did_you_mean(name, names)
    hint = f'did you mean "{near}"?' if near else or_else or f"there are: {listed(names)}"
    raise InputInvalid(code, f'there is no {kind} "{name}"', hint=hint)


__all__ = ["CommandFunction", "Reply", "columns", "pick"]
