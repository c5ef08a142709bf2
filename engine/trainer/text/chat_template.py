"""The chat template that came with a checkpoint: messages to segments of text.

In: messages ``[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]`` and the Jinja text of
chat_template.jinja or tokenizer_config.json. Out: :class:`~engine.trainer.text.segment.Segment` values whose ids are
those of transformers' ``apply_chat_template(messages, sanitize_control_tokens=True)``, without the leading BOS (callers
add it by id, once), each assistant turn trained up to the token that ends it, unless the message has ``"train": False``.

    chat.segments(messages)             # a training row: <start_of_turn>user ... | Ho<end_of_turn> | \\n
    chat.segments(messages[:1], ask=True)   # the same up to the first |, to generate from

The template runs in :class:`engine.sandbox.Sandbox`, in the same environment as in transformers: blocks trimmed, loop controls,
``raise_exception``, a ``tojson`` that escapes nothing, the names of the special tokens, ``generation`` blocks. It may not
use today's date: a training row would differ from tomorrow's prompt.

**What is trained** is determined by rendering: the conversation up to an answer, with ``add_generation_prompt``, must be
a prefix of the full conversation; the answer is then the text between that prefix and the end of the conversation with
the answer. Answers that are not trained need not be such: nothing is ever generated in their place. Where the template has ``generation`` blocks, these are trained (and the token that ends the turn, if it
directly follows the block).

**Text is text**: the name of a control token inside a message is enclosed in two private marks before rendering, and the
text between them becomes a segment of kind ``literal``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from engine.errors import InputInvalid, Where
from engine.sandbox import Exceeded, Sandbox
from engine.trainer.text.segment import Segment

PRIVATE = tuple(map(chr, range(0x10FF00, 0x10FFF0)))  # code points for private use: Unicode never assigns them
Messages = Sequence[Mapping[str, Any]]
Span = tuple[int, int]


class ChatTemplate:
    """A compiled template; immutable.

    ``variables``: "bos_token" -> "<bos>" and so on. ``added``: name of every added token -> whether it is special.
    """

    def __init__(self, text: str, *, variables: Mapping[str, str], added: Mapping[str, bool], source: str) -> None:
        """Raises InputInvalid M305 where the text is not a template, M320 where it is too large for one."""
        self._variables, self._source = dict(variables), source
        # Not the private characters of the template or the vocabulary: they could not be distinguished from marks.
        taken = set(text).union(*added)
        self._marks = [mark for mark in PRIVATE if mark not in taken]
        self._environment = _environment(self._marks[-2:])
        try:
            tree = self._environment.parse(text)
            self._template = self._environment.from_string(text)
        except Exceeded as error:
            raise self._excessive(error) from error
        except (jinja2.TemplateError, ValueError) as error:  # a ValueError: a number of more digits than Python reads
            raise self._broken(str(error), getattr(error, "lineno", None)) from error
        self._has_generation = any(
            isinstance(node.node, nodes.ExtensionAttribute) for node in tree.find_all(nodes.Call)
        )
        self.control_tokens = _control_tokens(tree, added)
        names = sorted(self.control_tokens, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self.turn_end = self._find_turn_end()

    def segments(self, messages: Messages, *, ask: bool = False) -> tuple[Segment, ...]:
        """The conversation in order; ``ask``: its last turn is a prompt, and the generation prompt follows it.

        ``train`` of a message is for this engine: no template sees it.

        Raises InputInvalid M305 (the template fails), M320 (it goes over a limit), M306 (it refuses these messages), M307 (its text before an answer
        differs between training and generation), M308 (BOS more than once).
        """
        marks = self._marks_for(messages)
        marked = [
            {**{key: value for key, value in message.items() if key != "train"},
             "content": self._mark(message["content"], marks)}
            for message in messages
        ]  # fmt: skip
        trained = [
            index
            for index, message in enumerate(messages)
            if message["role"] == "assistant" and message.get("train", True)
        ]
        rendered = self._render(marked, ask=ask)
        spans = self._spans(marked, trained, rendered, ask=ask)
        bos = self._variables.get("bos_token", "")
        start = len(bos) if bos and rendered.startswith(bos) else 0
        pieces: list[Segment] = []
        for begin, end in spans:
            pieces += self._pieces(rendered[start:begin], marks, train=False)
            pieces += self._pieces(rendered[begin:end], marks, train=not ask)
            start = end
        pieces += self._pieces(rendered[start:], marks, train=False)
        if bos and any(bos in piece.text for piece in pieces if piece.kind == "template"):
            raise InputInvalid(
                "M308",
                f"the model's chat template writes {bos} inside a conversation, and not only at its beginning",
                where=Where(file=self._source),
                hint="remove it from the template: the engine adds it at the beginning, once",
            )
        return tuple(pieces)

    def _render(self, messages: Messages, *, ask: bool) -> str:
        """The template's own output, marks included. ``messages`` are copied: a template cannot change them."""
        try:
            return self._environment.bounded(
                lambda: self._template.render(
                    messages=[dict(message) for message in messages],
                    tools=None,
                    documents=None,
                    add_generation_prompt=ask,
                    **self._variables,
                )
            )
        except Exceeded as error:
            raise self._excessive(error) from error
        except _Refusal as error:
            raise InputInvalid(
                "M306",
                f"the model's chat template refuses the conversation: {error}",
                hint="put the system text at the beginning of the first question"
                if any(message["role"] == "system" for message in messages)
                else "change the conversation",
            ) from error
        # A template can raise what Python raises: it calls methods of strings and lists.
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error

    def _spans(self, messages: Messages, trained: Sequence[int], rendered: str, *, ask: bool) -> list[Span]:
        """The span of each trained answer in ``rendered``, including the end of its turn."""
        if self._has_generation:
            return self._blocks(messages, trained, rendered)
        spans: list[Span] = []
        for index in trained:
            before = self._render(messages[:index], ask=True)
            last = index == len(messages) - 1 and not ask
            after = rendered if last else self._render(messages[: index + 1], ask=False)
            if not (after.startswith(before) and rendered.startswith(after)):
                raise self._no_prefix(index)
            spans.append((len(before), len(before) + self._turn_length(after[len(before) :])))
        return spans

    def _blocks(self, messages: Messages, trained: Sequence[int], rendered: str) -> list[Span]:
        """The ``generation`` blocks, each with the control token that directly follows it, unless it ends in one.

        Those of answers that are not trained are left out.
        """
        opening, closing = self._marks[-2:]
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        prompts = {index: self._render(messages[:index], ask=True) for index in answers}
        begins = {len(prompt): index for index, prompt in prompts.items() if rendered.startswith(prompt)}
        blocks = list(re.finditer(f"{opening}([^{opening}{closing}]*){closing}", rendered))
        # One block an answer is the rule; where it does not hold, the block's place says whose it is.
        owners = answers if len(blocks) == len(answers) else [begins.get(block.start()) for block in blocks]
        spans: list[Span] = []
        for number, (block, owner) in enumerate(zip(blocks, owners, strict=True)):
            if owner is not None and owner not in trained:
                continue
            if block.start() not in begins:
                raise self._no_prefix(answers[min(number, len(answers) - 1)] if answers else 0)
            next_name = None if self._ends_in_name(block[1]) else self._names.match(rendered, block.end())
            spans.append((block.start(), next_name.end() if next_name else block.end()))
        return spans

    def _turn_length(self, answer: str) -> int:
        """How much of the text after a prompt is trained: up to the control token that ends it, if there is one."""
        stripped = answer.rstrip()
        return len(stripped) if self._ends_in_name(stripped) else len(answer)

    def _ends_in_name(self, text: str) -> bool:
        return any(text.endswith(name) for name in self.control_tokens)

    def _find_turn_end(self) -> str | None:
        """The control token that ends an answer, from a trial; None where there is none, or the trial is refused."""
        trial = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            trained = [segment.text for segment in self.segments(trial) if segment.train]
        except InputInvalid:  # every real conversation raises it too, with its reason
            return None
        names = [name for name in self.control_tokens if trained and trained[-1].endswith(name)]
        return max(names, key=len, default=None)

    def _marks_for(self, messages: Messages) -> tuple[str, str]:
        """Two marks that no message contains. Raises InputInvalid M306 where the messages contain all of them."""
        taken = set().union(*(set(message["content"]) for message in messages))
        free = [mark for mark in self._marks[:-2] if mark not in taken]
        if len(free) < 2 or not taken.isdisjoint(self._marks[-2:]):
            raise InputInvalid(
                "M306",
                "the conversation contains private-use characters that the engine needs for itself",
                hint=f"remove the characters from U+{ord(PRIVATE[0]):X} on from it",
            )
        return free[0], free[1]

    def _mark(self, content: str, marks: tuple[str, str]) -> str:
        return self._names.sub(lambda name: f"{marks[0]}{name[0]}{marks[1]}", content)

    def _pieces(self, text: str, marks: tuple[str, str], *, train: bool) -> Iterator[Segment]:
        """Segments of one span of text.

        String methods in the template can separate the two marks: a lone mark is removed, and the text is still split
        there.
        """
        for mark in self._marks[-2:]:
            text = text.replace(mark, "")
        pattern = re.compile(f"{marks[0]}({self._names.pattern}){marks[1]}|[{''.join(marks)}]")
        segments: list[Segment] = []
        at = 0
        for match in pattern.finditer(text):
            segments.append(Segment(text[at : match.start()], train, kind="template"))
            segments.append(Segment(match[1] or "", train, kind="literal"))
            at = match.end()
        segments.append(Segment(text[at:], train, kind="template"))
        yield from (segment for segment in segments if segment.text)

    def _no_prefix(self, index: int) -> InputInvalid:
        return InputInvalid(
            "M307",
            f"the model's chat template renders the conversation up to message {index + 1} differently for training and "
            "for generation",
            where=Where(file=self._source),
            hint="generation would start from a text that training never used; shorten the conversation to one question "
            "and one answer, or give the template generation blocks",
        )

    def _excessive(self, error: Exceeded) -> InputInvalid:
        return InputInvalid(
            "M320",
            f"the model's chat template goes over the limits for a stranger's program: {error}",
            where=Where(file=self._source),
            hint="correct the template, or remove it from the model folder: gemma_chat@v1 is used then",
        )

    def _broken(self, reason: str, line: int | None = None) -> InputInvalid:
        return InputInvalid(
            "M305",
            f"the model's chat template cannot be used: {reason}",
            where=Where(file=self._source, line=line or 0),
            hint="correct the template, or remove it from the model folder: gemma_chat@v1 is used then",
        )


def _control_tokens(tree: nodes.Template, added: Mapping[str, bool]) -> tuple[str, ...]:
    """Special tokens, and the other added tokens that the template names, except white space, which all texts contain."""
    parts = [node.data for node in tree.find_all(nodes.TemplateData)]
    parts += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    text = "\0".join(parts)  # so that no name matches across two parts
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

    def _between_marks(self, caller: Callable[[], str]) -> str:
        opening, closing = self.environment.generation_marks  # type: ignore[attr-defined]
        return f"{opening}{caller()}{closing}"


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, without names that begin with an underscore: those are Python's own."""

    def __init__(self, /, *args: Any, **kwargs: object) -> None:
        super().__init__()
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


def _environment(generation_marks: Sequence[str]) -> Sandbox:
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    environment.extend(generation_marks=tuple(generation_marks))
    environment.set_filter("tojson", _tojson)
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _no_clock, "namespace": _Namespace}
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in transformers: Jinja's own filter escapes ``<``."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: object) -> NoReturn:
    raise _Refusal(str(message))


def _no_clock(_format: object) -> NoReturn:
    raise jinja2.exceptions.TemplateRuntimeError(
        "it uses today's date (strftime_now), so that a training row would differ from tomorrow's prompt; "
        "write a fixed date into it"
    )
