"""The tokenizer of a folder that only transformers can read without a guess.

In: a model folder. Out: the bytes of the tokenizer.json that transformers makes of it; the engine's own reader goes on
with them, and exports them.

    tokenizer_json(folder)      # of a folder with tokenizer.model only, or whose tokenizer.json lacks added tokens
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from engine.canonical import write_atomic
from engine.errors import InputInvalid, Where
from engine.trainer.reference.asking import Asking, CannotAnswer


def tokenizer_json(folder: Path, files: Mapping[str, bytes] | None = None) -> bytes:
    """``files``: what is read instead of the folder's own. Raises InputInvalid M312 with transformers' own words, M110 where it says nothing for long."""
    with tempfile.TemporaryDirectory(prefix="runspec-tokenizer-") as work:
        source = folder.absolute() if files is None else Path(work) / "files"
        for name, data in (files or {}).items():
            write_atomic(source / name, data)
        asking = Asking("convert", source, Path(work) / "tokenizer.json", [])
        try:
            return asking.answer()
        except CannotAnswer as error:
            raise InputInvalid(
                "M312",
                f"transformers cannot read the tokenizer of this folder: {error}",
                where=Where(file=str(folder)),
                hint="give the folder a tokenizer.json: load it with transformers' AutoTokenizer where it was made, "
                "then call save_pretrained",
            ) from error
