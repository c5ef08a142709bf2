"""Rows as the model's tokenizer makes them, for ``dataset check``: asked of the trainer's process, which has the library.

In: rendered rows and a model folder, or none for the tiny model. Out: what
:func:`engine.data.check_dataset` takes as ``tokenize``, reading one row after the other from a file.

    with tokens_of(rows, folder) as (tokenize, report):
        check_dataset(path, tokenize=tokenize)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.canonical import jsonl_bytes
from engine.errors import Diagnostic, InputInvalid
from engine.extras import require
from engine.protocol.jobs import TokensJob
from engine.trainer_process.process import Host, run_trainer

if TYPE_CHECKING:
    from engine.data import RenderedRow
    from engine.data.check import Tokenize


@contextmanager
def tokens_of(rows: Iterable[RenderedRow], folder: Path | None) -> Iterator[tuple[Tokenize, Mapping[str, Any]]]:
    """The rows' tokens, each row asked for once and in order; and the report of :mod:`engine.trainer.input_pipeline.inspect`.

    Raises InputInvalid X101 (the extra is missing), U120 (no such folder), and what a broken tokenizer is refused with.
    """
    require("train", "showing a row by the model's tokenizer")
    if folder is not None and not folder.is_dir():
        raise InputInvalid("U120", f'there is no model folder "{folder}"',
                           hint="name a folder with tokenizer.json in it, as a checkpoint has")  # fmt: skip
    from engine.data import Tokenized

    with tempfile.TemporaryDirectory(prefix="runspec-tokens-") as work:
        given, made = Path(work) / "rows.jsonl", Path(work) / "tokens.jsonl"
        with given.open("wb") as stream:
            for row in rows:
                stream.write(jsonl_bytes([row.as_json()]))
        job = TokensJob(rows=str(given), out=str(made), tokenizer=str(folder) if folder else None)
        report = run_trainer(job, Host(Path(work), Path.cwd()))
        with made.open(encoding="utf-8") as lines:

            def tokenize(_: RenderedRow) -> Tokenized:
                found = json.loads(next(lines))
                if "refused" in found:
                    raise InputInvalid.of([Diagnostic(**found["refused"])])
                names = {name: report[name] for name in ("bos", "eos", "end_of_turn")}
                return Tokenized(tuple(found["tokens"]), tuple(found["loss_mask"]), **names)

            yield tokenize, report
