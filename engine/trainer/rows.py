"""rows.jsonl -> token rows: what is fed, and which tokens count.

In: lines ``{"id": …, "segments": [{"text": …, "train": bool}, …]}``. Out: :class:`TokenRow`, each with BOS once in
front, every segment tokenised by itself (so no token spans the boundary between prompt and answer), and EOS,
trained, after the last trained segment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.tokenizer import Tokenizer

OnLongRow = Literal["fail", "drop", "truncate"]
SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True)
class TokenRow:
    """``tokens[i]`` is predicted from what stands before it where ``loss_mask[i]`` is 1."""

    id: str
    tokens: tuple[int, ...]
    loss_mask: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that fit, and how many did not."""

    rows: tuple[TokenRow, ...]
    n_dropped: int
    n_truncated: int


def read_token_rows(path: Path, tokenizer: Tokenizer) -> list[TokenRow]:
    """Every row of the file. Raises InputInvalid T110 (unreadable line), T111 (nothing trained)."""
    parsed, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            parsed.append((row["id"], [(part["text"], bool(part["train"])) for part in row["segments"]], number))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(Diagnostic("T110", f"not a training row: {error!r}", Where(str(path), number)))
    texts = [text for _, segments, _ in parsed for text, _ in segments]
    encoded = iter(tokenizer.encode_many(texts))
    rows = []
    for row_id, segments, number in parsed:
        tokens = [(next(encoded), train) for _, train in segments]
        row = token_row(row_id, tokens, tokenizer)
        if not any(row.loss_mask[:-1]):  # the EOS alone teaches no answer
            problems.append(Diagnostic("T111", f'row "{row_id}" has no token that is trained', Where(str(path), number),
                                       "its answer is empty, or nothing of it is marked as trained"))  # fmt: skip
        rows.append(row)
    if not rows and not problems:
        problems.append(Diagnostic("T112", "there is no row to train on", Where(str(path))))
    if problems:
        raise InputInvalid.of(problems[:SHOWN_ROWS])
    return rows


def token_row(row_id: str, segments: Sequence[tuple[Sequence[int], bool]], tokenizer: Tokenizer) -> TokenRow:
    """Join tokenised segments.

    >>> token_row("a", [([5, 6], False), ([7], True)], tokenizer)  # doctest: +SKIP
    TokenRow(id='a', tokens=(2, 5, 6, 7, 1), loss_mask=(0, 0, 0, 1, 1))
    """
    last_trained = max((index for index, (_, train) in enumerate(segments) if train), default=-1)
    tokens, mask = [tokenizer.bos_id], [0]
    for index, (ids, train) in enumerate(segments):
        tokens += ids
        mask += [int(train)] * len(ids)
        if index == last_trained:
            tokens.append(tokenizer.eos_id)
            mask.append(1)
    return TokenRow(row_id, tuple(tokens), tuple(mask))


def fit_rows(rows: Iterable[TokenRow], seq_len: int, on_long_row: OnLongRow) -> Fitted:
    """Apply the policy for rows longer than ``seq_len``. Raises InputInvalid T113 (fail), T114 (nothing left)."""
    kept, long, truncated = [], [], 0
    for row in rows:
        if len(row.tokens) <= seq_len:
            kept.append(row)
            continue
        long.append(row)
        cut = TokenRow(row.id, row.tokens[:seq_len], row.loss_mask[:seq_len])
        if on_long_row == "truncate" and any(cut.loss_mask):
            kept.append(cut)
            truncated += 1
    if long and on_long_row == "fail":
        raise InputInvalid.of(_too_long(long, seq_len))
    if not kept:
        raise InputInvalid("T114", f"no row is left to train on: all {len(long)} are longer than seq_len {seq_len}",
                           hint="raise seq_len")  # fmt: skip
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


def as_json(row: TokenRow) -> dict[str, Any]:
    """For looking at."""
    return {"id": row.id, "tokens": list(row.tokens), "loss_mask": list(row.loss_mask)}
