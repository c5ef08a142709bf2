"""The command line: from words to a command and its arguments, and the help texts.

In: the table of commands and the words that were typed. Out: the :class:`Command` and a Namespace,
or InputInvalid with a suggestion. argparse splits the words; its messages and its help are replaced, because they
change between Python versions and suggest nothing.

    command, arguments = parse(["validate", "runspecs/quickstart.yaml"], COMMANDS)
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

from engine.commands import CommandFunction, columns
from engine.errors import InputInvalid, did_you_mean
from engine.pipeline.run_words import OVERRIDE

# Arguments whose names cannot be attributes.
_ATTRIBUTES = {"--from": "start", "--for": "scheduler", "KEY=VALUE": "overrides"}
Count = Literal["one", "optional", "any", "some"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One positional (``SPEC``) or option (``--force``).

    ``KEY=VALUE`` takes every further word of that form. An option without ``value`` is a switch.
    """

    name: str
    help: str
    value: str = ""
    count: Count = "one"
    repeat: bool = False
    number: bool = False
    least: int = 0  # of a number
    most: int | None = None
    required: bool = False  # an option that the command does nothing without

    @property
    def is_option(self) -> bool:
        """True for ``--force``, False for ``SPEC``."""
        return self.name.startswith("-")

    @property
    def attribute(self) -> str:
        """Its name in the Namespace: ``--eval-set`` is ``eval_set``, ``KEY=VALUE`` is ``overrides``."""
        return _ATTRIBUTES.get(self.name) or self.name.lstrip("-").replace("-", "_").lower()

    @property
    def usage(self) -> str:
        """Its form in the usage line."""
        if self.is_option:
            return f"{self.name} {self.value}".strip()
        return {
            "one": self.name,
            "optional": f"[{self.name}]",
            "any": f"[{self.name}…]",
            "some": f"{self.name}…",
        }[self.count]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``where`` is ``module:function`` below engine.commands, imported only when it is run.

    ``page``: the topic of ``runspec docs`` that says more than its help.
    """

    name: str
    does: str
    where: str
    arguments: tuple[Argument, ...] = ()
    more: str = ""
    group: str = ""
    page: str = "commands"

    def function(self) -> CommandFunction:
        """Import the command's module and return its function."""
        module, _, function = self.where.partition(":")
        return cast(CommandFunction, getattr(importlib.import_module(f"engine.commands.{module}"), function))


COMMON = (
    Argument("--json", "print one JSON document on standard output, and nothing else there"),
    Argument("--help", "show this help"),
)


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error in our form."""
        text = re.sub(r"^argument (\S+): ", r"\1: ", message)
        raise InputInvalid("U103", f"{self.prog}: {text}", hint=f"see `{self.prog} --help`")


def _parser(command: Command) -> _Parser:
    parser = _Parser(prog=f"runspec {command.name}", add_help=False, allow_abbrev=False)
    for argument in command.arguments + COMMON:
        if not argument.is_option:
            continue
        if not argument.value:
            parser.add_argument(argument.name, action="store_true")
        else:
            parser.add_argument(
                argument.name,
                dest=argument.attribute,
                action="append" if argument.repeat else "store",
                type=_number_of(argument) if argument.number else str,
            )
    return parser


def _number_of(argument: Argument) -> Callable[[str], int]:
    """The reader of a number within the argument's limits, whose words argparse puts after the option's name."""
    limits = f"at least {argument.least}" if argument.most is None else f"from {argument.least} to {argument.most}"

    def read(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f'"{word}" is not a whole number') from None
        if number < argument.least or (argument.most is not None and number > argument.most):
            raise argparse.ArgumentTypeError(f"{number} is not allowed, it must be {limits}")
        return number

    return read


def find_command(words: Sequence[str], commands: Sequence[Command]) -> tuple[Command, list[str]]:
    """The command that the first one or two words name, and the words after it."""
    by_name = {command.name: command for command in commands}
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in by_name:
            return by_name[name], list(words[length:])
    first = words[0]
    family = sorted(name for name in by_name if name.startswith(f"{first} "))
    if family:
        typed = words[1] if len(words) > 1 and not words[1].startswith("-") else ""
        choices = [name.split()[1] for name in family]
        near = did_you_mean(typed, choices) if typed else None
        sentence = f'"runspec {first}" has no "{typed}"' if typed else f'"runspec {first}" needs one more word'
        hint = f'did you mean "runspec {first} {near}"?' if near else f"one of: {', '.join(choices)}"
        raise InputInvalid("U101", sentence, hint=hint)
    near = did_you_mean(first, by_name)
    hint = f'did you mean "runspec {near}"?' if near else "`runspec --help` lists the commands"
    what = "option" if first.startswith("-") else "command"
    raise InputInvalid("U101" if what == "command" else "U102", f'there is no {what} "{first}"', hint=hint)


def parse(words: Sequence[str], commands: Sequence[Command]) -> tuple[Command, argparse.Namespace]:
    """Raises InputInvalid (U101 command, U102 option, U103 missing or malformed argument)."""
    _refuse_carriage_returns(words)
    command, rest = find_command(words, commands)
    if "--help" in rest or "-h" in rest:
        return command, argparse.Namespace(help=True, json=False)
    known = [argument.name for argument in command.arguments + COMMON if argument.is_option]
    end = rest.index("--") if "--" in rest else len(rest)
    for word in rest[:end]:
        option = word.split("=", 1)[0]
        if word.startswith("-") and len(word) > 1 and option not in known and not _is_number(word):
            near = did_you_mean(option, known)
            hint = f'did you mean "{near}"?' if near else f"it has: {', '.join(known)}"
            raise InputInvalid("U102", f'runspec {command.name} has no option "{option}"', hint=hint)
    arguments, words_left = _parser(command).parse_known_args(rest[:end])
    _bind(command, arguments, [*words_left, *rest[end + 1 :]])
    return command, arguments


def _refuse_carriage_returns(words: Sequence[str]) -> None:
    """X323: a shell hands the carriage return of a script with Windows line ends on as part of the last word."""
    for word in words:
        if word.endswith("\r"):
            raise InputInvalid(
                "X323", f'"{word.rstrip()}" is followed by a carriage return',
                hint="the script that typed it has Windows line ends; save it with LF alone: sed -i 's/\\r$//' SCRIPT",
            )  # fmt: skip


def _bind(command: Command, arguments: argparse.Namespace, words: list[str]) -> None:
    """Assign the words without a dash to the positionals, in order. argparse cannot parse
    ``run SPEC --force train key=value``: a list of words that an option interrupts."""
    hint = f"see `runspec {command.name} --help`"
    takes_overrides = any(argument.attribute == "overrides" for argument in command.arguments)
    if takes_overrides:
        _refuse_torn_overrides(words[1:])
    arguments.overrides = [word for word in words[1:] if takes_overrides and OVERRIDE.match(word)]
    words = [word for index, word in enumerate(words) if index == 0 or word not in arguments.overrides]
    for positional in (argument for argument in command.arguments if not argument.is_option):
        value: Any
        if positional.attribute == "overrides":
            continue
        if positional.count == "some":
            value, words = words, []
        else:
            value, words = (words[0] if words else None), words[1:]
        if not value and positional.count in ("one", "some"):
            raise InputInvalid("U103", f"runspec {command.name}: {positional.name} is missing", hint=hint)
        setattr(arguments, positional.attribute, value)
    if words:
        override_hint = "an override is KEY=VALUE, for example train.num_train_steps=50\n" if takes_overrides else ""
        raise InputInvalid(
            "U103", f"runspec {command.name}: too many arguments: {' '.join(words)}", hint=override_hint + hint
        )


def _refuse_torn_overrides(words: Sequence[str]) -> None:
    """U103 for an override with spaces around its sign, and for a sign that only looks like one: they would be taken for files."""
    for index, word in enumerate(words):
        plain = unicodedata.normalize("NFKC", word)
        if not OVERRIDE.match(word) and OVERRIDE.match(plain):
            sign = next(one for one in word if one != "=" and unicodedata.normalize("NFKC", one) == "=")
            name = f"{unicodedata.name(sign).lower()} (U+{ord(sign):04X})"
            raise InputInvalid("U103", f'"{word}" has a {name} in the place of the sign =', hint=f"type {plain}")
        if word.startswith("="):
            torn = words[max(0, index - 1) : index + 2] if word == "=" else words[max(0, index - 1) : index + 1]
            raise InputInvalid("U103", f'an override is one word: "{" ".join(torn)}" is {len(torn)}',
                               hint=f"type {''.join(torn)}, without spaces around the sign")  # fmt: skip


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-\d+(\.\d+)?", word) is not None


def _width() -> int:
    return max(60, min(100, shutil.get_terminal_size((100, 24)).columns))


def command_help(command: Command) -> str:
    """``runspec COMMAND --help``."""
    positionals = [argument for argument in command.arguments if not argument.is_option]
    options = [argument for argument in command.arguments if argument.is_option] + list(COMMON)
    needed = [argument.usage for argument in options if argument.required]
    usage = " ".join(["runspec", command.name, *(argument.usage for argument in positionals), *needed, "[options]"])
    parts = [f"usage: {usage}", "", textwrap.fill(command.does[0].upper() + command.does[1:] + ".", _width())]
    if command.more:
        parts += ["", textwrap.dedent(command.more).strip("\n")]
    for title, arguments in (("arguments", positionals), ("options", options)):
        if arguments:
            parts += ["", f"{title}:", aligned([(argument.usage, argument.help) for argument in arguments])]
    return "\n".join([*parts, "", f"more: runspec docs {command.page}"])


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, the right one wrapped to the terminal (COLUMNS is honoured)."""
    left = max(len(name) for name, _ in rows)
    width = max(24, _width() - left - 4)
    wrapped = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, width) or [""]
        wrapped += [(name.ljust(left), first), *((" " * left, other) for other in others)]
    return columns(wrapped)


def top_help(commands: Sequence[Command], version: str) -> str:
    """``runspec --help``: every command, grouped by purpose."""
    parts = [
        f"runspec {version}: one run-spec, from YAML to verified evidence",
        "",
        "usage: runspec COMMAND [arguments] [--json]",
    ]
    left = max(len(command.name) for command in commands)
    for group in dict.fromkeys(command.group for command in commands):
        rows = [(command.name.ljust(left), command.does) for command in commands if command.group == group]
        parts += ["", f"{group}:", aligned(rows)]
    parts += [
        "",
        "`runspec COMMAND --help` says more, `runspec docs` has the documents. Exit codes: 0 ok,",
        "1 run failed, 2 input invalid, 3 internal error, 4 evidence incomplete, 5 verification failed,",
        "6 another run holds the lock, 7 stopped by the session limit, 8 remote refused, 130 interrupted.",
    ]
    return "\n".join(parts)
