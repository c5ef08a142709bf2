"""rows.jsonl tokenised once: a memory-mapped store, found again by what it was made from.

In: the file, a tokenizer, a cache folder. Out: :class:`TokenStore`. Its name is a digest of the file's bytes, the
tokenizer's files, the rendering, and the code and library that tokenised; its own digest is that of the tokens. So a
warm start reads the rows once, for their digest, and nothing else; a change of any of these makes a store anew.

    store = open_store(Path("rows.jsonl"), tokenizer, Path("cache"), render="reasoning@v1")
    store.table.row(0)

Killed in the middle, half a store is never seen, and the next start goes on after the last whole part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.canonical import digest_json
from engine.errors import InputInvalid, Where
from engine.trainer.code_digest import code_digest
from engine.trainer.input_pipeline.array_store import Arrays, ArrayWriter, open_or_build
from engine.trainer.input_pipeline.rows import RowFindings
from engine.trainer.input_pipeline.token_table import TokenTable
from engine.trainer.input_pipeline.tokenizing import Encoded, FilePart, encode_parts, survey, worker_count
from engine.trainer.text.tokenizer import Tokenizer

FORMAT = 1
KEY_CHARS = 32
EVENT_SECONDS = 1.0  # what is done sooner needs no bar
REMEMBER_SECONDS = 2.0  # so much tokenising a kill can cost
MADE_BY = tuple(
    f"engine.trainer.{name}"
    for name in (
        *(f"input_pipeline.{part}" for part in ("rows", "tokenizing", "token_table", "token_store")),
        *(f"text.{part}" for part in ("segment", "encoding", "chat_template", "tokenizer")),
    )
)
Emit = Callable[[Mapping[str, Any]], None]


class Stopped(Exception):
    """The wish to stop came while the rows were tokenised; what is done is kept."""


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The table, digests of its content and of the file it came from, and whether it was there already."""

    table: TokenTable
    digest: str
    rows_digest: str
    was_there: bool


def open_store(
    path: Path,
    tokenizer: Tokenizer,
    cache: Path,
    *,
    render: str,
    emit: Emit = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
    workers: int | None = None,
) -> TokenStore:
    """Find the store, or make it. Raises InputInvalid T110, T111, T112, M304 to M308; RunFailed T119; Stopped.

    Events: tokenizing{done, total} every second, in rows; tokens_damaged{reason} where a store is no longer whole.
    """
    parts, rows_digest = survey(path)
    key = {
        "format": FORMAT,
        "rows": rows_digest,
        "tokenizer": tokenizer.digest(),
        "render": render,
        "code": code_digest(*MADE_BY),
        **{name: metadata.version(name) for name in ("tokenizers", "jinja2")},
    }
    folder = cache / "tokens" / digest_json(key)[:KEY_CHARS]

    def build() -> Arrays:
        count = worker_count(parts) if workers is None else workers
        return _Build(path, parts, tokenizer, emit, stopping, count).run(folder, key)

    found, was_there = open_or_build(folder, build, lambda reason: emit({"event": "tokens_damaged", "reason": reason}))
    return TokenStore(TokenTable.of_arrays(found.arrays), found.digest, rows_digest, was_there)


class _Build:
    """One making of a store."""

    def __init__(
        self,
        path: Path,
        parts: list[FilePart],
        tokenizer: Tokenizer,
        emit: Emit,
        stopping: Callable[[], bool],
        workers: int,
    ) -> None:
        self._path, self._parts, self._tokenizer, self._workers = path, parts, tokenizer, workers
        self._emit, self._stopping = emit, stopping
        self._total = sum(part.n_lines for part in parts)
        self._findings = RowFindings(str(path))

    def run(self, folder: Path, key: Mapping[str, Any]) -> Arrays:
        """Tokenise what is not yet tokenised, publish."""
        word = "<u2" if self._tokenizer.vocab_size <= 1 << 16 else "<u4"
        dtypes = {
            "tokens": word, "loss_mask": "|u1", "offsets": "<i8", "trained": "<i4", "boundary_merges": "<i4",
            "ids": "|u1", "id_offsets": "<i8",
        }  # fmt: skip
        cuts = [part.size for part in self._parts]  # a number of parts means something only where these are the same
        with ArrayWriter(folder, dtypes, [key, cuts]) as writer:
            first = writer.note["parts"] if writer.note else 0
            if not first:
                _append_first(writer)
            self._encode(writer, first)
            self._findings.raise_if_any()
            n_rows = writer.length("trained")
            if not n_rows:
                raise InputInvalid("T112", "there is no row to train on", where=Where(str(self._path)))
            return writer.publish({"n_rows": n_rows, "key": dict(key)})

    def _encode(self, writer: ArrayWriter, first: int) -> None:
        done = sum(part.n_lines for part in self._parts[:first])
        said = remembered = time.monotonic()
        started = said
        parts = self._parts[first:]
        with closing(encode_parts(self._path, parts, self._tokenizer, self._workers)) as encoded:
            for number, (part, one) in enumerate(zip(parts, encoded, strict=True), start=first + 1):
                self._take(writer, one)
                done, now, stop = done + part.n_lines, time.monotonic(), self._stopping()
                if now - said >= EVENT_SECONDS or (said > started and done == self._total):
                    self._emit({"event": "tokenizing", "done": done, "total": self._total})
                    said = now
                if (stop or now - remembered >= REMEMBER_SECONDS) and not self._findings.total:
                    writer.remember({"parts": number})
                    remembered = now
                if stop:
                    raise Stopped

    def _take(self, writer: ArrayWriter, encoded: Encoded) -> None:
        """Append a part; once something is wrong with the file, only look for what else is."""
        self._findings.extend(encoded.shown, encoded.total)
        if self._findings.total:
            return
        table = encoded.table
        for name in ("tokens", "loss_mask", "trained", "boundary_merges", "ids"):
            writer.append(name, getattr(table, name))
        writer.append("offsets", table.offsets[1:] + (writer.length("tokens") - len(table.tokens)))
        writer.append("id_offsets", table.id_offsets[1:] + (writer.length("ids") - len(table.ids)))


def _append_first(writer: ArrayWriter) -> None:
    """The 0 that both rows of offsets begin with."""
    for name in ("offsets", "id_offsets"):
        writer.append(name, np.zeros(1, np.int64))
