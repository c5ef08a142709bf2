"""rows.jsonl tokenised once: a memory-mapped store, keyed by what it is made from.

In: the file, a tokenizer, a cache folder. Out: :class:`TokenStore`. Its name is a digest of the file's bytes, the
tokenizer's files, the rendering, and the code and library that tokenised; its own digest is that of the tokens. So a
warm start reads the rows once, for their digest, and nothing else; a change of any of these builds another store.

    store = open_store(Path("rows.jsonl"), tokenizer, Path("cache"), render="reasoning@v1")
    store.table.row(0)

After a kill no partial store is visible, and the next start continues after the last complete part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from engine.canonical import digest_json
from engine.errors import InputInvalid, Where
from engine.protocol.events.inputs import Tokenizing, TokensDamaged
from engine.trainer.code_digest import code_digest
from engine.trainer.input_pipeline.array_store import Arrays, ArrayWriter, open_or_build
from engine.trainer.input_pipeline.rows import RowFindings
from engine.trainer.input_pipeline.token_table import TokenTable
from engine.trainer.input_pipeline.tokenizing import Encoded, FilePart, encode_parts, survey, worker_count
from engine.trainer.process import Emit
from engine.trainer.text.tokenizer import Tokenizer

FORMAT = 1
KEY_CHARS = 32
EVENT_SECONDS = 1.0  # shorter work needs no progress bar
REMEMBER_SECONDS = 2.0  # a kill costs this much tokenising at most
MADE_BY = tuple(
    f"engine.trainer.{name}"
    for name in (
        *(f"input_pipeline.{part}" for part in ("rows", "tokenizing", "token_table", "token_store")),
        *(f"text.{part}" for part in ("segment", "encoding", "chat_template", "tokenizer")),
    )
)


class Stopped(Exception):
    """A stop request came while the rows were tokenised; the finished parts are kept."""


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The table, digests of its content and of the rows' file, and whether it existed already."""

    table: TokenTable
    digest: str
    rows_digest: str
    was_cached: bool


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
    """Open the store, or build it. Raises InputInvalid T110, T111, T112, M304 to M308; RunFailed T119; Stopped.

    Events: tokenizing{done, total} every second, in rows; tokens_damaged{reason} if a store is damaged.
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

    found, was_there = open_or_build(folder, build, lambda reason: emit(TokensDamaged(reason)))
    return TokenStore(TokenTable.of_arrays(found.arrays), found.digest, rows_digest, was_there)


class _Build:
    """Builds one store."""

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

    def run(self, folder: Path, key: Mapping[str, object]) -> Arrays:
        """Tokenise the remaining parts, publish."""
        token_dtype = "<u2" if self._tokenizer.vocab_size <= 1 << 16 else "<u4"
        dtypes = {
            "tokens": token_dtype, "loss_mask": "|u1", "offsets": "<i8", "trained": "<i4", "boundary_merges": "<i4",
            "ids": "|u1", "id_offsets": "<i8",
        }  # fmt: skip
        sizes = [part.size for part in self._parts]  # a number of parts has a meaning only for the same sizes
        with ArrayWriter(folder, dtypes, [key, sizes]) as writer:
            first = writer.note["parts"] if writer.note else 0
            if not first:
                _begin_offsets(writer)
            self._encode(writer, first)
            self._findings.raise_if_any()
            n_rows = writer.length("trained")
            if not n_rows:
                raise InputInvalid("T112", "there is no row to train on", where=Where(str(self._path)))
            return writer.publish({"n_rows": n_rows, "key": dict(key)})

    def _encode(self, writer: ArrayWriter, first: int) -> None:
        done = sum(part.n_lines for part in self._parts[:first])
        reported = remembered = time.monotonic()
        started = reported
        parts = self._parts[first:]
        with closing(encode_parts(self._path, parts, self._tokenizer, self._workers)) as encoded:
            for number, (part, encoded_part) in enumerate(zip(parts, encoded, strict=True), start=first + 1):
                self._append(writer, encoded_part)
                done, now, stop = done + part.n_lines, time.monotonic(), self._stopping()
                if now - reported >= EVENT_SECONDS or (reported > started and done == self._total):
                    self._emit(Tokenizing(done, self._total))
                    reported = now
                if (stop or now - remembered >= REMEMBER_SECONDS) and not self._findings.total:
                    writer.remember({"parts": number})
                    remembered = now
                if stop:
                    raise Stopped

    def _append(self, writer: ArrayWriter, encoded: Encoded) -> None:
        """Append a part; after the first finding only collect more findings."""
        self._findings.extend(encoded.shown, encoded.total)
        if self._findings.total:
            return
        table = encoded.table
        for name in ("tokens", "loss_mask", "trained", "boundary_merges", "ids"):
            writer.append(name, getattr(table, name))
        writer.append("offsets", table.offsets[1:] + (writer.length("tokens") - len(table.tokens)))
        writer.append("id_offsets", table.id_offsets[1:] + (writer.length("ids") - len(table.ids)))


def _begin_offsets(writer: ArrayWriter) -> None:
    """The 0 that both columns of offsets begin with."""
    for name in ("offsets", "id_offsets"):
        writer.append(name, np.zeros(1, np.int64))
