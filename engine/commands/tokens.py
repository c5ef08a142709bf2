"""Rows as tokens of the model's tokenizer, for ``dataset check``, from the trainer's process, which has the library.

In: rendered rows and a model folder, or none for the tiny model. Out: the
``tokenize`` of :func:`engine.data.check_dataset`, which reads row after row from a file.

    with tokens_of(rows, folder) as (tokenize, report):
        check_dataset(path, tokenize=tokenize)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.canonical import jsonl_bytes
from engine.data import Tokenized
from engine.errors import Diagnostic, InputInvalid
from engine.extras import require
from engine.protocol.jobs import TokensJob
from engine.temporary import working_folder
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer

if TYPE_CHECKING:
    from engine.data import RenderedRow
    from engine.data.check import Tokenize


@contextmanager
def tokens_of(rows: Iterable[RenderedRow], folder: Path | None) -> Iterator[tuple[Tokenize, Mapping[str, Any]]]:
    """``tokenize``, to be called once for each row, in order; and the report of :mod:`engine.trainer.input_pipeline.inspect`.

    Raises InputInvalid X101 (the extra is missing), U120 (no such folder), and the codes of a broken tokenizer.
    """
    require("train", "showing a row by the model's tokenizer")
    if folder is not None and not folder.is_dir():
        raise InputInvalid("U120", f'there is no model folder "{folder}"',
                           hint="name a folder with tokenizer.json in it, as a checkpoint has")  # fmt: skip

    with working_folder("runspec-tokens-") as work:
        rows_path, tokens_path = work / "rows.jsonl", work / "tokens.jsonl"
        with rows_path.open("wb") as stream:
            for row in rows:
                stream.write(jsonl_bytes([row.as_json()]))
        job = TokensJob(str(rows_path), str(tokens_path), tokenizer=str(folder.absolute()) if folder else None)
        report = run_trainer(job, Host(work, work))
        with tokens_path.open(encoding="utf-8") as lines:

            def tokenize(_: RenderedRow) -> Tokenized:
                tokens = json.loads(next(lines))
                if "refused" in tokens:
                    raise InputInvalid.of([Diagnostic(**tokens["refused"])])
                names = {name: report[name] for name in ("bos", "eos", "end_of_turn")}
                return Tokenized(tuple(tokens["tokens"]), tuple(tokens["loss_mask"]), **names)

            yield tokenize, report
