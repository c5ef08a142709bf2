"""The token ids that end a generated answer.

In: the tokenizer, and the model folder's generation_config.json if it has one. Out: the ids at which generation stops;
every trained turn ends with one of them.

    stop_ids(tokenizer, read_generation_config(folder))   # (1, 107) for Gemma: <eos> and <end_of_turn>
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import InputInvalid, Where
from engine.model_config.folder_files import read_in
from engine.trainer.text.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The mapping of generation_config.json; empty where there is none. Raises InputInvalid M309, M112."""
    path, data = folder / GENERATION_FILE, read_in(folder, GENERATION_FILE)
    if data is None:
        return {}
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}", str(path)) from error
    if not isinstance(config, dict):
        raise _invalid("must be a JSON object", str(path))
    return config


def stop_ids(tokenizer: Tokenizer, generation: Mapping[str, object], source: str = GENERATION_FILE) -> tuple[int, ...]:
    """EOS, the ends of a turn, and the ids that the generation config names (one or a list), sorted.

    Raises InputInvalid M309 where one is not an id of the vocabulary: a model could never write it.

    >>> from engine.trainer.text.tokenizer import build_chars
    >>> stop_ids(build_chars(), {"eos_token_id": [1, 107]})
    (1, 107)
    """
    named = generation.get("eos_token_id")
    ids = [] if named is None else named if isinstance(named, list) else [named]
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < tokenizer.vocab_size:
            raise _invalid(f"eos_token_id {token!r} is not one of the tokenizer's {tokenizer.vocab_size} ids", source)
    return tuple(sorted(tokenizer.turn_end_ids.union(ids)))


def _invalid(reason: str, source: str) -> InputInvalid:
    return InputInvalid(
        "M309", reason, where=Where(file=source), hint="fetch the model folder again, or delete the file"
    )
