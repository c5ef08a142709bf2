"""Which files of a repository make a model: small ones, and the weights in one preferred format.

>>> choose_weights(["config.json", "model.safetensors", "flax_model.msgpack"])
'model.safetensors'
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path

from engine.errors import InputInvalid, Where
from engine.trainer.hub.client import Repository, Source
from engine.trainer.text.tokenizer_files import (
    COMPANION_FILES,
    CONFIG_FILE,
    OTHER_TOKENIZERS,
    SPECIALS_FILE,
    TOKENIZER_FILE,
)

TOKENIZERS = (TOKENIZER_FILE, *OTHER_TOKENIZERS)  # any one of them makes a tokenizer
SMALL_FILES = frozenset(
    ("config.json", "generation_config.json", CONFIG_FILE, SPECIALS_FILE, "merges.txt", *TOKENIZERS, *COMPANION_FILES)
)
# In the order in which engine.trainer.weights looks for them.
WEIGHTS = ("model.safetensors", "flax_model.msgpack")
INDEX = ".index.json"
SHOWN = 5
READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".json": "read_json"}  # pandas' own, by the file's suffix


def small_files(names: Collection[str]) -> list[str]:
    """Configuration, tokenizer and chat template, those that exist."""
    return sorted(name for name in names if name in SMALL_FILES)


def choose_weights(names: Collection[str]) -> str | None:
    """The file of the weights, or the index of their shards; None if there is neither."""
    candidates = [name for unsharded in WEIGHTS for name in (unsharded, f"{unsharded}{INDEX}")]
    return next((name for name in candidates if name in names), None)


# What is often taken for a model: a pattern of names -> what it is, and what to do.
MISTAKEN = {
    "adapter_model.*": (
        "holds adapters, not a model",
        "name the model that they were trained over (its card says which), or merge them first",
    ),
    "*.gguf": ("holds a format for inference", "name the repository that it was made from"),
    "consolidated*.safetensors": ("holds its maker's own layout", "name the repository in transformers' layout"),
    "*.safetensors": (
        f"has safetensors, but not under the name {WEIGHTS[0]}",
        "name a repository in transformers' layout",
    ),
}


def no_weights(repository: Source, names: Collection[str], branches: Sequence[str]) -> InputInvalid:
    """M404: what the repository is instead, or its branches: another one may have the weights."""
    where = Where(file=repository.id)
    for pattern, (what, hint) in MISTAKEN.items():
        match = next((name for name in sorted(names) if fnmatch(name, pattern)), None)
        if match is not None:
            message = f"{repository.at} {what} ({match})"
            return InputInvalid("M404", message, where=where, hint=hint)
    kinds = ", ".join(sorted({Path(name).suffix for name in names if Path(name).suffix})) or "no files"
    return InputInvalid(
        "M404",
        f"{repository.at} has neither safetensors nor Flax weights (it has: {kinds})",
        where=where,
        hint=f"name another {repository.choice}" + (f"; it has: {', '.join(branches)}" if branches else ""),
    )


def no_file(repository: Repository, any_of: Sequence[str], names: Collection[str]) -> InputInvalid:
    """M409: the files of the wanted kind, or the tables of other kinds and how one of them becomes JSONL."""
    similar = sorted(name for name in names if Path(name).suffix == Path(any_of[0]).suffix)
    tables = sorted(name for name in names if Path(name).suffix in READERS)
    if similar:
        hint = f"name the file with path: …; files of this kind: {_some(similar)}"
    elif tables:
        reader = READERS[Path(tables[0]).suffix]
        revision = f"@{repository.revision}" if repository.revision else ""
        address = f"hf://datasets/{repository.id}{revision}/{tables[0]}"
        code = (
            f"import pandas; pandas.{reader}('{address}').to_json("
            "'data/rows.jsonl', orient='records', lines=True, force_ascii=False)"
        )
        hint = (
            f"only JSONL is read, and it has {_some(tables)}; convert it into the project with pandas and name that file "
            f'as dataset: {{path: data/rows.jsonl}}:\npython -c "{code}"'
        )
    else:
        hint = f"only JSONL is read, and it has: {_some(sorted(names)) or 'no files'}"
    message = f"{repository.kind} {repository.id} has no {' or '.join(any_of)}"
    return InputInvalid("M409", message, where=Where(file=repository.id), hint=hint)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def index_shards(index: Path, names: Collection[str], repository: Source) -> list[str]:
    """The shards that an index names. Raises InputInvalid M404: it is not valid, or names missing files."""
    where = Where(file=f"{repository.id}/{index.name}")
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        bad = [name for name in shards if Path(name).name != name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputInvalid("M404", f"the index of the weights of {repository.at} is not valid", where=where,
                           hint=f"name another {repository.choice} of the model") from None  # fmt: skip
    missing = bad + [name for name in shards if name not in names and name not in bad]
    if missing or not shards:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise InputInvalid(
            "M404",
            f"the index of the weights of {repository.at} names "
            + (f"files that do not exist: {', '.join(missing[:SHOWN])}{more}" if missing else "no file"),
            where=where,
            hint=f"name another {repository.choice} of the model, or tell its owner",
        )
    return shards
