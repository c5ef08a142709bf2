"""rows.jsonl -> token rows: the tokens, and which of them are trained.

In: lines ``{"id": …, "segments": [{"text": …, "train": bool}, …], "messages"?: […]}``. Out:
:class:`TokenRow`, each with BOS once in front, every segment tokenised by itself (so no token spans the boundary between
prompt and answer), and EOS, trained, after the last trained segment, unless that ends in a token that ends a turn. Text
after the last trained segment is left out: it cannot change the loss of anything before it. A row with ``messages`` is
rendered by the model's chat template, if it has one (:mod:`engine.trainer.text.encoding`).

Nothing is put between the turns of a conversation: what the template writes there is what precedes the next question
in generation too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.text.encoding import encode_segments, merged_boundaries, row_segments
from engine.trainer.text.segment import Segment
from engine.trainer.text.tokenizer import Tokenizer

OnLongRow = Literal["fail", "drop", "truncate", "split"]
SHOWN_ROWS = 20
OF_THE_TEMPLATE = ("M305", "M308")  # whichever row is rendered


@dataclass(frozen=True, slots=True)
class TokenRow:
    """``tokens[i]`` is predicted from the tokens before it if ``loss_mask[i]`` is 1.

    ``boundary_merges``: how many segment boundaries would be inside a token if the row were tokenised as one text.
    """

    id: str
    tokens: tuple[int, ...]
    loss_mask: tuple[int, ...]
    boundary_merges: int = 0


class RowFindings:
    """What is wrong with a file: the first findings in full, the others as a number."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.shown: list[Diagnostic] = []
        self.total = 0

    def add(self, code: str, message: str, line: int, hint: str | None = None) -> None:
        """One finding, in a line counted from 1."""
        self.extend([Diagnostic(code, message, Where(self.file, line), hint)], 1)

    def extend(self, findings: Sequence[Diagnostic], total: int) -> None:
        """Add the findings of another part of the file, of which there were ``total``."""
        self.shown += findings[: SHOWN_ROWS - len(self.shown)]
        self.total += total

    def raise_if_any(self) -> None:
        """Raises InputInvalid with the shown findings and the number of the others."""
        if not self.total:
            return
        more = self.total - len(self.shown)
        last = [Diagnostic(self.shown[0].code, f"and {more} more rows", Where(self.file))] if more else []
        raise InputInvalid.of([*self.shown, *last])


def has_messages(path: Path) -> bool:
    """Whether the file's first row is a conversation; all rows of a dataset are of one format."""
    with path.open("rb") as stream:
        try:
            row = json.loads(stream.readline())
        except ValueError:  # the rows are checked where they are read
            return False
    return isinstance(row, dict) and row.get("messages") is not None


def token_rows(data: bytes, first_line: int, tokenizer: Tokenizer, findings: RowFindings) -> list[TokenRow]:
    """The rows of complete lines, the first of which is line ``first_line`` of the file.

    A line that is not a row (T110), has no trained token (T111), or is refused by the chat template (M306, M307) goes to
    ``findings``. Raises InputInvalid M304, M305, M308 (tokenizer, template).
    """
    parsed = list(_parsed(data, first_line, tokenizer, findings))
    encoded = iter(encode_segments([segment for _, segments, _ in parsed for segment in segments], tokenizer))
    merges = merged_boundaries([segments for _, segments, _ in parsed], tokenizer)
    rows = []
    for (row_id, segments, line), merged in zip(parsed, merges, strict=True):
        ids = [next(encoded) for _ in segments]
        if not any(len(ids[index]) for index, segment in enumerate(segments) if segment.train):
            hint = "its answer is empty, or no segment is marked as trained"
            findings.add("T111", f'row "{row_id}" has no trained token', line, hint)
        rows.append(replace(token_row(row_id, segments, ids, tokenizer), boundary_merges=merged))
    return rows


def _parsed(
    data: bytes, first_line: int, tokenizer: Tokenizer, findings: RowFindings
) -> Iterator[tuple[str, Sequence[Segment], int]]:
    """(id, segments, line number) of each readable line."""
    for number, line in enumerate(data.split(b"\n"), start=first_line):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
            segments = [Segment(part["text"], bool(part["train"])) for part in row["segments"]]
            if not all(isinstance(segment.text, str) for segment in segments):
                raise TypeError("text is not a string")
            if b"\\ud" in line.lower():  # a lone surrogate is not text: encoding it raises
                json.dumps(row, ensure_ascii=False).encode()
            yield str(row["id"]), row_segments(segments, row.get("messages"), tokenizer), number
        except InputInvalid as error:
            finding = error.diagnostics[0]
            if finding.code in OF_THE_TEMPLATE:  # every row would say it again
                message = f'{finding.message} (first at row "{row["id"]}", line {number})'
                raise InputInvalid.of([replace(finding, message=message)]) from error
            message, where = f'row "{row["id"]}": {finding.message}', Where(findings.file, number)
            findings.extend([replace(finding, message=message, where=where)], 1)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            findings.add("T110", f"not a training row: {error!r}", number)


def token_row(row_id: str, segments: Sequence[Segment], ids: Sequence[Sequence[int]], tokenizer: Tokenizer) -> TokenRow:
    """Join tokenised segments: (prompt [5, 6]) (answer [7], trained) -> tokens 2 5 6 7 1, mask 0 0 0 1 1."""
    last_trained = max((index for index, segment in enumerate(segments) if segment.train), default=-1)
    tokens, mask = [tokenizer.bos_id], [0]
    for index, segment in enumerate(segments[: last_trained + 1]):
        tokens += ids[index]
        mask += [int(segment.train)] * len(ids[index])
    if last_trained >= 0 and tokens[-1] not in tokenizer.turn_end_ids:
        tokens.append(tokenizer.eos_id)
        mask.append(1)
    return TokenRow(row_id, tuple(tokens), tuple(mask))
