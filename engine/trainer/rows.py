"""rows.jsonl -> token rows: what is fed, and which tokens count.

In: lines ``{"id": …, "segments": [{"text": …, "train": bool, "eos"?: bool}, …], "messages"?: […]}``. Out:
:class:`TokenRow`, each with BOS once in front, every segment tokenised by itself (so no token spans the boundary between
prompt and answer), and EOS, trained, after the last trained segment and after every trained segment that ``"eos": true``
marks (the turns of a chat), unless that segment ends in a token that ends a turn. What stands after the last trained
segment is left out: it cannot change the loss of anything before it. A row with ``messages`` is rendered by the
checkpoint's chat template, where it has one (:mod:`engine.trainer.segments`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.segments import Segment, encode_segments, merged_boundaries, row_segments
from engine.trainer.tokenizer import Tokenizer

OnLongRow = Literal["fail", "drop", "truncate"]
SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True)
class TokenRow:
    """``tokens[i]`` is predicted from what stands before it where ``loss_mask[i]`` is 1.

    ``boundary_merges``: how many boundaries of its segments one tokenisation of the whole text would have merged.
    """

    id: str
    tokens: tuple[int, ...]
    loss_mask: tuple[int, ...]
    boundary_merges: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that fit, and how many did not."""

    rows: tuple[TokenRow, ...]
    n_dropped: int
    n_truncated: int


def read_token_rows(path: Path, tokenizer: Tokenizer) -> list[TokenRow]:
    """Every row of the file.

    Raises InputInvalid T110 (unreadable line), T111 (nothing trained), T112 (no row), M304 to M308 (tokenizer, template).
    """
    problems: list[Diagnostic] = []
    parsed = list(_parsed(path, tokenizer, problems))
    encoded = iter(encode_segments([segment for _, segments, _ in parsed for segment in segments], tokenizer))
    merges = merged_boundaries([segments for _, segments, _ in parsed], tokenizer)
    rows = []
    for (row_id, segments, number), merged in zip(parsed, merges, strict=True):
        ids = [next(encoded) for _ in segments]
        if not any(len(ids[index]) for index, segment in enumerate(segments) if segment.train):
            problems.append(
                Diagnostic(
                    "T111",
                    f'row "{row_id}" has no token that is trained',
                    Where(str(path), number),
                    "its answer is empty, or nothing of it is marked as trained",
                )
            )
        rows.append(replace(token_row(row_id, segments, ids, tokenizer), boundary_merges=merged))
    if not rows and not problems:
        problems.append(Diagnostic("T112", "there is no row to train on", Where(str(path))))
    if problems:
        raise InputInvalid.of(_shown(problems, path))
    return rows


def _parsed(
    path: Path, tokenizer: Tokenizer, problems: list[Diagnostic]
) -> Iterator[tuple[str, Sequence[Segment], int]]:
    """(id, segments, line number) of each readable line; the others go to ``problems``."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
            segments = [
                Segment(part["text"], bool(part["train"]), bool(part.get("eos", False))) for part in row["segments"]
            ]
            if not all(isinstance(segment.text, str) for segment in segments):
                raise TypeError("text is not a string")
            yield str(row["id"]), row_segments(segments, row.get("messages"), tokenizer), number
        except InputInvalid as error:
            found = error.diagnostics[0]
            problems.append(
                replace(found, message=f'row "{row["id"]}": {found.message}', where=Where(str(path), number))
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Diagnostic("T110", f"not a training row: {error!r}", Where(str(path), number)))


def _shown(problems: Sequence[Diagnostic], path: Path) -> list[Diagnostic]:
    """The first ones, and how many more there are."""
    if len(problems) <= SHOWN_ROWS:
        return list(problems)
    more = Diagnostic(problems[0].code, f"and {len(problems) - SHOWN_ROWS} more rows", Where(str(path)))
    return [*problems[:SHOWN_ROWS], more]


def token_row(row_id: str, segments: Sequence[Segment], ids: Sequence[Sequence[int]], tokenizer: Tokenizer) -> TokenRow:
    """Join tokenised segments: (prompt [5, 6]) (answer [7], trained) -> tokens 2 5 6 7 1, mask 0 0 0 1 1."""
    last_trained = max((index for index, segment in enumerate(segments) if segment.train), default=-1)
    tokens, mask = [tokenizer.bos_id], [0]
    for index, segment in enumerate(segments[: last_trained + 1]):
        tokens += ids[index]
        mask += [int(segment.train)] * len(ids[index])
        ends = segment.train and (segment.eos or index == last_trained)
        if ends and tokens[-1] not in tokenizer.turn_end_ids:
            tokens.append(tokenizer.eos_id)
            mask.append(1)
    return TokenRow(row_id, tuple(tokens), tuple(mask))


def fit_rows(rows: Iterable[TokenRow], seq_len: int, on_long_row: OnLongRow) -> Fitted:
    """Apply the policy for rows longer than ``seq_len``. Raises InputInvalid T113 (fail), T114 (nothing left).

    A row that loses all its trained tokens by ``truncate`` teaches nothing: it counts as dropped.
    """
    kept, long, truncated = [], [], 0
    for row in rows:
        if len(row.tokens) <= seq_len:
            kept.append(row)
            continue
        long.append(row)
        cut = replace(row, tokens=row.tokens[:seq_len], loss_mask=row.loss_mask[:seq_len])
        if on_long_row == "truncate" and any(cut.loss_mask):
            kept.append(cut)
            truncated += 1
    if long and on_long_row == "fail":
        raise InputInvalid.of(_too_long(long, seq_len))
    if not kept:
        raise InputInvalid(
            "T114",
            f"no row is left to train on: all {len(long)} are longer than seq_len {seq_len}",
            hint="raise seq_len",
        )
    return Fitted(tuple(kept), len(long) - truncated, truncated)


def _too_long(rows: Sequence[TokenRow], seq_len: int) -> list[Diagnostic]:
    longest = max(len(row.tokens) for row in rows)
    hint = f"raise seq_len to {longest}, or declare on_long_row: drop or truncate"
    found = [
        Diagnostic("T113", f'row "{row.id}" has {len(row.tokens)} tokens, more than seq_len {seq_len}', hint=hint)
        for row in rows[:SHOWN_ROWS]
    ]
    if len(rows) > SHOWN_ROWS:
        found.append(Diagnostic("T113", f"and {len(rows) - SHOWN_ROWS} more rows are too long", hint=hint))
    return found
