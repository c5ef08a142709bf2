"""Rows as the trainer will feed them, written out to be looked at and checked: the verb ``tokens``.

In: a job {rows (path of rows.jsonl), tokenizer (a model folder, or null for the tiny model's characters), out (path)}. Out:
in ``out`` one line for each row, in order, either ``{"tokens": ["<bos>", "2 ", …], "loss_mask": [0, 0, …]}``, each token by
the text it stands for and control tokens by name, or ``{"refused": {code, message, hint}}``; and the report::

    {"bos": "<bos>", "eos": "<eos>", "end_of_turn": "<end_of_turn>", "n_boundary_merges": 0, "rendered_by": ""}

``rendered_by`` is empty for rows that are not conversations.

Tokens joined are the row's text: nothing here is tokenised in another way than for training. No JAX.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from engine.protocol.jobs import TokensJob
from engine.trainer.input_pipeline.rows import SHOWN_ROWS, RowFindings, TokenRow, has_messages, token_rows
from engine.trainer.text.encoding import renderer_of
from engine.trainer.text.tokenizer import END_OF_TURN, Tokenizer, build_chars

NOTHING_TRAINED = "T111"  # such a row is tokenised all the same, and who checks it says so


def inspect_rows(job: TokensJob) -> dict[str, Any]:
    """Do the job; returns the report. Raises InputInvalid M301 to M305, M308, OSError."""
    tokenizer = Tokenizer.load(job.tokenizer) if job.tokenizer else build_chars()
    merges = 0
    rendered_by = renderer_of(messages=has_messages(Path(job.rows)), render="", tokenizer=tokenizer)
    with Path(job.rows).open("rb") as lines, Path(job.out).open("w", encoding="utf-8") as out:
        for row in _rows(lines, tokenizer):
            if isinstance(row, TokenRow):
                merges += row.boundary_merges
                shown: dict[str, Any] = {"tokens": tokenizer.pieces(row.tokens), "loss_mask": row.loss_mask}
            else:
                shown = {"refused": row}
            out.write(json.dumps(shown) + "\n")
    end_of_turn = tokenizer.chat.turn_end if tokenizer.chat else None
    bos, eos = tokenizer.pieces([tokenizer.bos_id]), tokenizer.pieces([tokenizer.eos_id])
    return {
        "bos": bos[0],
        "eos": eos[0],
        "end_of_turn": end_of_turn or END_OF_TURN,
        "n_boundary_merges": merges,
        "rendered_by": rendered_by,
    }


def _rows(lines: Any, tokenizer: Tokenizer) -> Iterator[TokenRow | dict[str, Any]]:
    """Each row, or why it is none. As many at a time as findings are kept in full."""
    while chunk := list(islice(lines, SHOWN_ROWS)):
        findings = RowFindings("")
        rows = iter(token_rows(b"".join(chunk), 1, tokenizer, findings))
        refused = {one.where.line: one for one in findings.shown if one.where and one.code != NOTHING_TRAINED}
        for line in range(1, len(chunk) + 1):
            if line not in refused:
                yield next(rows)
                continue
            found = refused[line]
            yield {"code": found.code, "message": found.message, "hint": found.hint}
