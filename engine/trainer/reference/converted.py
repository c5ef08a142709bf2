"""The tokenizer of a folder that only transformers can read without a guess.

In: a model folder. Out: the bytes of the tokenizer.json that transformers makes of it; the engine's own reader goes on
with them, and exports them.

    tokenizer_json(folder)      # of a folder with tokenizer.model only, or whose tokenizer.json lacks added tokens
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from engine.errors import InputInvalid, Where
from engine.trainer.reference.asking import Asking, CannotAnswer


def tokenizer_json(folder: Path) -> bytes:
    """Raises InputInvalid M312 with transformers' own words, M110 where it says nothing for long."""
    with tempfile.TemporaryDirectory(prefix="runspec-tokenizer-") as work:
        asking = Asking("convert", folder.absolute(), Path(work) / "tokenizer.json", [])
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
