"""The chat template that came with a checkpoint: messages to segments of text.

In: messages ``[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]`` and the Jinja text of
chat_template.jinja or tokenizer_config.json. Out: :class:`~engine.trainer.text.segment.Segment` values whose ids are those of
transformers' ``apply_chat_template(messages, sanitize_control_tokens=True)``, without the BOS in front (callers put it
by id, once), each assistant turn trained up to the token that ends it.

    chat.segments(messages)             # a training row: <start_of_turn>user ... | Ho<end_of_turn> | \\n
    chat.segments(messages[:1], ask=True)   # the same up to the first |, to generate from

The template runs in Jinja's immutable sandbox with what transformers gives it: blocks trimmed, loop controls,
``raise_exception``, a ``tojson`` that escapes nothing, the names of the special tokens, ``generation`` blocks. It may not
ask for today's date: a row would differ from the question asked tomorrow.

**What is trained** is found by rendering: a conversation up to an answer, with ``add_generation_prompt``, must be how the
whole conversation begins; then the answer is what comes between that and the conversation with the answer. Or, where the
template has ``generation`` blocks, these (and the token that ends the turn, if it stands right behind the block).

**Text is text**: the name of a control token inside a message is put between two private marks before rendering, and
what stands between them comes out as a segment of kind ``literal``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InputInvalid, Where
from engine.trainer.text.segment import Segment

PRIVATE = tuple(map(chr, range(0x10FF00, 0x10FFF0)))  # code points that Unicode gives no meaning, ever
Messages = Sequence[Mapping[str, str]]
Span = tuple[int, int]


class ChatTemplate:
    """A compiled template; immutable.

    ``variables``: "bos_token" -> "<bos>" and so on. ``added``: name -> is it special, of every added token.
    """

    def __init__(self, text: str, *, variables: Mapping[str, str], added: Mapping[str, bool], source: str) -> None:
        """Raises InputInvalid M305 where the text is no template."""
        self._variables, self._source = dict(variables), source
        # Not those of private use that the template or the vocabulary has: they could not be told apart.
        taken = set(text).union(*added)
        self._marks = [mark for mark in PRIVATE if mark not in taken]
        self._environment = _environment(self._marks[-2:])
        try:
            tree = self._environment.parse(text)
            self._template = self._environment.from_string(text)
        except jinja2.TemplateError as error:
            raise self._broken(str(error), getattr(error, "lineno", None)) from error
        self._has_generation = any(
            isinstance(node.node, nodes.ExtensionAttribute) for node in tree.find_all(nodes.Call)
        )
        self.control_tokens = _control_tokens(tree, added)
        names = sorted(self.control_tokens, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self.turn_end = self._find_turn_end()

    def segments(self, messages: Messages, *, ask: bool = False) -> tuple[Segment, ...]:
        """The conversation in order; ``ask``: its last turn is a question, and what opens the answer follows it.

        Raises InputInvalid M305 (the template fails), M306 (it refuses these messages), M307 (it writes something else
        before an answer than it writes when the answer is to be generated), M308 (BOS more than once).
        """
        marks = self._marks_for(messages)
        marked = [{**message, "content": self._mark(message["content"], marks)} for message in messages]
        whole = self._render(marked, ask=ask)
        spans = self._spans(marked, whole, ask=ask)
        bos = self._variables.get("bos_token", "")
        start = len(bos) if bos and whole.startswith(bos) else 0
        pieces: list[Segment] = []
        for begin, end in spans:
            pieces += self._pieces(whole[start:begin], marks, train=False)
            pieces += self._pieces(whole[begin:end], marks, train=not ask)
            start = end
        pieces += self._pieces(whole[start:], marks, train=False)
        if bos and any(bos in piece.text for piece in pieces if piece.kind == "template"):
            raise InputInvalid(
                "M308",
                f"the model's chat template writes {bos} inside a conversation, and not only in front of it",
                where=Where(file=self._source),
                hint="take it out of the template: the engine puts it in front, once",
            )
        return tuple(pieces)

    def _render(self, messages: Messages, *, ask: bool) -> str:
        """The template's own output, marks included. ``messages`` are copied: a template cannot change them."""
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=ask,
                **self._variables,
            )
        except _Refusal as error:
            raise InputInvalid(
                "M306",
                f"the model's chat template refuses the conversation: {error}",
                hint="put the system text in front of the first question"
                if any(message["role"] == "system" for message in messages)
                else "change the conversation",
            ) from error
        # What a template can do wrong is what Python can do wrong: it calls methods of strings and lists.
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error

    def _spans(self, messages: Messages, whole: str, *, ask: bool) -> list[Span]:
        """Where each answer stands in ``whole``, the end of its turn included."""
        if self._has_generation:
            return self._blocks(messages, whole)
        spans: list[Span] = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:place], ask=True)
            last = place == len(messages) - 1 and not ask
            after = whole if last else self._render(messages[: place + 1], ask=False)
            if not (after.startswith(before) and whole.startswith(after)):
                raise self._no_prefix(place)
            spans.append((len(before), len(before) + self._turn_length(after[len(before) :])))
        return spans

    def _blocks(self, messages: Messages, whole: str) -> list[Span]:
        """The ``generation`` blocks, each with the control token right behind it, if it has none itself."""
        opening, closing = self._marks[-2:]
        answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        asked = [self._render(messages[:place], ask=True) for place in answers]
        begins = {len(before) for before in asked if whole.startswith(before)}
        spans: list[Span] = []
        for found in re.finditer(f"{opening}([^{closing}]*){closing}", whole):
            if found.start() not in begins:
                raise self._no_prefix(answers[min(len(spans), len(answers) - 1)] if answers else 0)
            behind = None if self._ends_in_name(found[1]) else self._names.match(whole, found.end())
            spans.append((found.start(), behind.end() if behind else found.end()))
        return spans

    def _turn_length(self, answer: str) -> int:
        """How much of what follows a prompt is trained: up to the control token that ends it, if one does."""
        stripped = answer.rstrip()
        return len(stripped) if self._ends_in_name(stripped) else len(answer)

    def _ends_in_name(self, text: str) -> bool:
        return any(text.endswith(name) for name in self.control_tokens)

    def _find_turn_end(self) -> str | None:
        """The control token that ends an answer, by trying; None where there is none, or the trial is refused."""
        trial = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            trained = [segment.text for segment in self.segments(trial) if segment.train]
        except InputInvalid:  # every real conversation will say why
            return None
        names = [name for name in self.control_tokens if trained and trained[-1].endswith(name)]
        return max(names, key=len, default=None)

    def _marks_for(self, messages: Messages) -> tuple[str, str]:
        """Two marks that stand in none of the messages. Raises InputInvalid M306 where they use up all of them."""
        taken = set().union(*(set(message["content"]) for message in messages))
        free = [mark for mark in self._marks[:-2] if mark not in taken]
        if len(free) < 2 or not taken.isdisjoint(self._marks[-2:]):
            raise InputInvalid(
                "M306",
                "the conversation holds characters of private use that the engine needs for itself",
                hint=f"take the characters from U+{ord(PRIVATE[0]):X} on out of it",
            )
        return free[0], free[1]

    def _mark(self, content: str, marks: tuple[str, str]) -> str:
        return self._names.sub(lambda found: f"{marks[0]}{found[0]}{marks[1]}", content)

    def _pieces(self, text: str, marks: tuple[str, str], *, train: bool) -> Iterator[Segment]:
        """Segments of one stretch; the last piece of a trained one ends a turn.

        A method of strings in the template can part the two marks: a lone one vanishes, the text still breaks there.
        """
        for mark in self._marks[-2:]:
            text = text.replace(mark, "")
        pattern = re.compile(f"{marks[0]}({self._names.pattern}){marks[1]}|[{''.join(marks)}]")
        found: list[Segment] = []
        at = 0
        for match in pattern.finditer(text):
            found.append(Segment(text[at : match.start()], train, kind="template"))
            found.append(Segment(match[1] or "", train, kind="literal"))
            at = match.end()
        found.append(Segment(text[at:], train, kind="template"))
        found = [segment for segment in found if segment.text]
        yield from found[:-1]
        if found:
            yield Segment(found[-1].text, train, eos=train, kind=found[-1].kind)

    def _no_prefix(self, place: int) -> InputInvalid:
        return InputInvalid(
            "M307",
            f"the model's chat template writes message {place + 1} of a conversation in another way than it asks for it",
            where=Where(file=self._source),
            hint="the model would be asked in a text it was never trained after; shorten the conversation to one question "
            "and one answer, or give the template generation blocks",
        )

    def _broken(self, reason: str, line: int | None = None) -> InputInvalid:
        return InputInvalid(
            "M305",
            f"the model's chat template cannot be used: {reason}",
            where=Where(file=self._source, line=line or 0),
            hint="mend the template, or take it out of the model folder: then gemma_chat@v1 is used",
        )


def _control_tokens(tree: nodes.Template, added: Mapping[str, bool]) -> tuple[str, ...]:
    """Special tokens, and the other added tokens that the template names; white space, which all texts have, is none."""
    written = [node.data for node in tree.find_all(nodes.TemplateData)]
    written += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    text = "\0".join(written)  # so that no name is found across two of them
    return tuple(name for name, special in added.items() if special or (name in text and not name.isspace()))


class _Refusal(jinja2.TemplateError):
    """What ``raise_exception`` raises."""


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}``: its text between two marks."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_between_marks"), [], [], body).set_lineno(line)

    def _between_marks(self, caller: Any) -> str:
        opening, closing = self.environment.generation_marks  # type: ignore[attr-defined]
        return f"{opening}{caller()}{closing}"


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, without names that begin with an underscore: those are Python's own."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


def _environment(generation_marks: Sequence[str]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.extend(generation_marks=tuple(generation_marks))
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _no_clock, "namespace": _Namespace}
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: Jinja's own would write ``<`` as an escape."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: object) -> NoReturn:
    raise _Refusal(str(message))


def _no_clock(_format: object) -> NoReturn:
    raise jinja2.exceptions.TemplateRuntimeError(
        "it asks for today's date (strftime_now), so that a row would not be the question asked tomorrow; "
        "write a date into it"
    )
