"""``runspec dataset check``: which tokens are trained on, and the rows for which that is wrong.

In: a file (or rendered rows) and, optionally, the model's tokenizer. Out: a report
with counts, lengths and one row with its trained part marked, and a finding for every row
in which no answer token is trained, BOS is missing or repeated, or EOS is not trained.

Without a tokenizer the check works on characters: ``<bos>`` in front, ``<eos>`` after the last trained
segment unless that segment ends with ``<end_of_turn>``; control tokens in the text itself count as single tokens, as a
tokenizer would read them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.canonical import JsonObject
from engine.data.jsonl import JsonlFindings, errors_line
from engine.data.lineage import find_duplicates
from engine.data.manifest import length_stats
from engine.data.model import CONTROL_LITERALS, TURN_LITERALS, DatasetRow, RenderedRow
from engine.data.render import RENDER_OF, render_row
from engine.data.rows import check_mapping, collect_rows
from engine.data.text import normalise_prompt
from engine.errors import Diagnostic, InputInvalid
from engine.printable import one_line, printable

BOS, EOS = "<bos>", "<eos>"
END_OF_TURN = TURN_LITERALS[1]
OPEN_MARK, CLOSE_MARK = "[trained>", "<trained]"
NO_MODEL = "gemma_chat@v1, as for a model without a chat template"
_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"

NOTHING_TRAINED, NO_BOS, TWO_BOS, EOS_NOT_TRAINED, BAD_MASK = 40, 41, 42, 43, 44

_SYMBOLS = re.compile("|".join(map(re.escape, (*CONTROL_LITERALS, *TURN_LITERALS))) + "|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A row as tokens. ``loss_mask``: 1 = the token counts in the loss. ``bos``, ``eos`` and ``end_of_turn`` are the texts of those tokens."""

    tokens: tuple[str, ...]
    loss_mask: tuple[int, ...]
    bos: str = BOS
    eos: str = EOS
    end_of_turn: str = END_OF_TURN


# Called for each row once, in order. Raises InputInvalid where the tokenizer refuses a row.
Tokenize = Callable[[RenderedRow], "Tokenized | tuple[Sequence[str], Sequence[int]]"]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """The result of the check. ``unit`` is that of the lengths: characters or tokens.

    ``render`` is the dataset's, ``rendered_by`` what rendered the rows of this check.
    """

    path: str
    format: str
    render: str
    unit: str
    n_rows: int
    rendered_by: str = ""
    n_duplicates: int = 0
    lengths: Mapping[str, float | int] = field(default_factory=dict)
    trained_lengths: Mapping[str, float | int] = field(default_factory=dict)
    longest_id: str = ""
    unused_fields: Mapping[str, int] = field(default_factory=dict)
    sample_id: str = ""
    sample: Tokenized | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        """True where there are no findings."""
        return not self.diagnostics

    def as_json(self) -> JsonObject:
        """The document of ``--json``."""
        return {
            "ok": self.ok,
            "path": self.path,
            "format": self.format,
            "render": self.render,
            "rendered_by": self.rendered_by or self.render,
            "unit": self.unit,
            "n_rows": self.n_rows,
            "n_duplicates": self.n_duplicates,
            "lengths": dict(self.lengths),
            "trained_lengths": dict(self.trained_lengths),
            "longest_id": self.longest_id,
            "unused_fields": dict(self.unused_fields),
            "sample": {"id": self.sample_id, "text": marked(self.sample)} if self.sample else None,
            "diagnostics": [diagnostic.as_json() for diagnostic in self.diagnostics],
        }

    def text(self, *, color: bool = False) -> str:
        """The report as a person reads it; ``color``: the trained part is green instead of bracketed."""
        if self.diagnostics and not self.n_rows:
            return errors_line(self.path, self.diagnostics, "no row can be read")
        lines = [
            f"{one_line(self.path)}: {self.n_rows} rows of format {self.format}, rendered by {self.rendered_by or self.render}"
        ]
        if self.diagnostics:
            lines.insert(0, errors_line(self.path, self.diagnostics, "the report is of the rows without one"))
        for name, stats in (("row", self.lengths), ("trained part", self.trained_lengths)):
            if stats:
                spread = f"{stats['min']} to {stats['max']}, mean {stats['mean']}"
                lines.append(f"length of a {name} in {self.unit}: {spread}")
        if self.longest_id:
            lines.append(f"longest row: {one_line(self.longest_id)}")
        lines.append(f"rows whose prompt an earlier row has: {self.n_duplicates}")
        if self.unused_fields:
            names = ", ".join(f"{one_line(name)} ({count} rows)" for name, count in self.unused_fields.items())
            lines.append(f"keys that nothing is read from: {names}")
        if self.sample is not None:
            how = "green is trained" if color else f"trained between {OPEN_MARK} and {CLOSE_MARK}"
            lines += ["", f"row {one_line(self.sample_id)} ({how}):", marked(self.sample, color=color)]
        return "\n".join(lines)


def check_dataset(
    source: Path | Sequence[RenderedRow],
    format: str = "trace",
    fields: Mapping[str, str] | None = None,
    tokenize: Tokenize | None = None,
    *,
    name: str = "rows",
    lines: Mapping[str, int] | None = None,
    limit_errors: int = 50,
) -> DatasetReport:
    """Check a file, or rendered rows; for those ``name`` is the name of their file, ``lines`` the line of each row's id.

    Never raises for the file's content.
    """
    name = str(source) if isinstance(source, Path) else name
    findings = JsonlFindings(name, "D1", limit_errors)
    rows: list[DatasetRow] = []
    if isinstance(source, Path):
        try:
            kind = check_mapping(format, fields or {})
        except InputInvalid as error:
            return DatasetReport(name, format, "", "characters", 0, diagnostics=error.diagnostics)
        rows = collect_rows(source, kind, fields or {}, findings)
        rendered, render = [render_row(row) for row in rows], RENDER_OF[kind]
        rendered_by = NO_MODEL if kind == "chat" else ""
    else:
        rendered, render, rendered_by = list(source), "as given", ""
    lines = {row.id: row.line for row in rows} or lines or {}
    # One row at a time: the tokens of a million rows would not fit in memory.
    lengths, trained_lengths, sample, sample_id = [], [], None, ""
    for row in rendered:
        try:
            tokens = _tokenize(row, tokenize)
        except InputInvalid as error:
            findings.add_foreign(error.diagnostics[0], line=lines.get(row.id, 0), path=row.id)
            lengths.append(0)
            continue
        check_tokens(tokens, row.id, lines.get(row.id, 0), findings)
        lengths.append(len(tokens.tokens))
        trained_lengths.append(sum(map(bool, tokens.loss_mask)))
        if sample is None:
            sample, sample_id = tokens, row.id
    return DatasetReport(
        path=name,
        format=format,
        render=render,
        rendered_by=rendered_by,
        unit="tokens" if tokenize else "characters",
        n_rows=len(rendered),
        n_duplicates=len(find_duplicates(rows)) if rows else _repeated_prompts(rendered),
        lengths=length_stats(readable) if (readable := [length for length in lengths if length]) else {},
        trained_lengths=length_stats(trained_lengths) if trained_lengths else {},
        longest_id=rendered[lengths.index(max(lengths))].id if lengths else "",
        unused_fields=dict(sorted(Counter(key for row in rows for key in row.unused).items())),
        sample_id=sample_id,
        sample=sample,
        diagnostics=tuple(findings.diagnostics()),
    )


def _repeated_prompts(rendered: Sequence[RenderedRow]) -> int:
    """The same count for rendered rows: by the text before the trained part."""
    prompts = {normalise_prompt("".join(part.text for part in row.segments[:-1])) for row in rendered}
    return len(rendered) - len(prompts)


def _tokenize(row: RenderedRow, tokenize: Tokenize | None) -> Tokenized:
    if tokenize is None:
        return tokenize_characters(row)
    result = tokenize(row)
    return result if isinstance(result, Tokenized) else Tokenized(tuple(result[0]), tuple(result[1]))


def tokenize_characters(row: RenderedRow) -> Tokenized:
    """The row as characters and control tokens, by the trainer's rule: up to its last trained segment.

    >>> from engine.data.model import RenderedRow, RenderedSegment
    >>> row = RenderedRow("r", (RenderedSegment("a", False), RenderedSegment("b", True)))
    >>> tokenize_characters(row).tokens
    ('<bos>', 'a', 'b', '<eos>')
    """
    tokens, mask = [BOS], [0]
    trained = [index for index, segment in enumerate(row.segments) if segment.train]
    last = trained[-1] if trained else len(row.segments)
    for index, segment in enumerate(row.segments[: last + 1]):
        symbols = _SYMBOLS.findall(segment.text)
        if index == last and symbols[-1:] != [END_OF_TURN]:
            symbols.append(EOS)
        tokens += symbols
        mask += [int(segment.train)] * len(symbols)
    return Tokenized(tuple(tokens), tuple(mask))


def check_tokens(row: Tokenized, row_id: str, line: int, findings: JsonlFindings) -> None:
    """The four conditions that every training row must meet."""

    def report(number: int, message: str, hint: str) -> None:
        findings.add(number, f'row "{row_id}": {message}', line=line, path=row_id, hint=hint)

    if len(row.tokens) != len(row.loss_mask):
        message = f"{len(row.tokens)} tokens but a loss mask of {len(row.loss_mask)}"
        report(BAD_MASK, message, "this is a fault of the tokenizer adapter")
        return
    ends = (row.eos, row.end_of_turn)
    trained = [token for token, counts in zip(row.tokens, row.loss_mask, strict=True) if counts]
    if not any(token not in ends and token.strip() for token in trained):
        report(
            NOTHING_TRAINED,
            "no answer token is trained",
            "at least one trained segment must not be blank",
        )
        return
    bos_at = [index for index, token in enumerate(row.tokens) if token == row.bos]
    if not bos_at or bos_at[0] != 0:
        report(NO_BOS, "it does not begin with BOS", "Gemma's loss is far too high without <bos> in front")
    if len(bos_at) > 1:
        report(
            TWO_BOS,
            f"it contains BOS {len(bos_at)} times",
            "remove <bos> from the text: the engine adds it",
        )
    if trained[-1] not in ends:
        message = "neither EOS nor the end of the turn is trained after the answer"
        report(EOS_NOT_TRAINED, message, "a model that is never trained on it never stops")


def marked(row: Tokenized, *, color: bool = False) -> str:
    """The row as text with its trained stretches marked, by brackets or in green.

    >>> marked(Tokenized(("<bos>", "a", "b", "<eos>"), (0, 0, 1, 1)))
    '<bos>a[trained>b<eos><trained]'
    """
    opening, closing = (_GREEN, _PLAIN) if color else (OPEN_MARK, CLOSE_MARK)
    parts: list[str] = []
    inside = False
    for token, counts in zip(row.tokens, row.loss_mask, strict=False):
        if bool(counts) != inside:
            parts.append(closing if inside else opening)
            inside = not inside
        parts.append(printable(token))
    return "".join([*parts, closing] if inside else parts)
