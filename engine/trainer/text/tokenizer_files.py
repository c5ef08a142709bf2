"""The files of a tokenizer folder, as the engine's own reader needs them.

In: a folder. Out: name -> bytes, with a ``tokenizer.json`` that has every token of the folder.

    files = read_files(folder)

The engine reads ``tokenizer.json`` itself: text is text there, and names in a message stay letters, which
``AutoTokenizer`` does by an option at best. Where that file is not there (a SentencePiece model only, a vocabulary with
merges), or where other files of the folder add tokens that it does not have, our reader would have to guess, and
transformers is asked: what it makes of the folder is read, and exported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.canonical import pretty_json
from engine.errors import InputInvalid, Where
from engine.model_config.folder_files import file_in, orbax_checkpoint, read_in, stand_in
from engine.trainer.reference.converted import tokenizer_json

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIALS_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
TEMPLATE_FILE = "chat_template.jinja"
MODEL_FILE = "tokenizer.model"
# Of a Flax variation, which has the SentencePiece model alone.
GEMMA_SETTINGS = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
    "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>",
}  # fmt: skip
# Copied unread where a folder has them; sentencepiece's file is for other programs.
COMPANION_FILES = (MODEL_FILE, ADDED_FILE, TEMPLATE_FILE)
# Each of them makes a tokenizer for transformers.
OTHER_TOKENIZERS = (MODEL_FILE, "spiece.model", "vocab.json", "vocab.txt")
LISTS = ("additional_special_tokens", "extra_special_tokens")


def read_files(folder: Path) -> dict[str, bytes]:
    """Raises InputInvalid M301 (no tokenizer), M302 (broken), M112 (no file), M312 (transformers cannot read it either)."""
    names = (TOKENIZER_FILE, CONFIG_FILE, SPECIALS_FILE, *COMPANION_FILES)
    read = {name: read_in(folder, name) for name in names}
    files = {name: data for name, data in read.items() if data is not None}
    for name, data in files.items():
        stands_for = stand_in(data)
        if stands_for is not None:
            raise InputInvalid("M302", stands_for[0], where=Where(file=str(folder / name)), hint=stands_for[1])
    if TOKENIZER_FILE not in files:
        if MODEL_FILE in files and CONFIG_FILE not in files and orbax_checkpoint(folder) is not None:
            files[CONFIG_FILE] = pretty_json(GEMMA_SETTINGS).encode()
            return files | {
                TOKENIZER_FILE: tokenizer_json(folder, {name: files[name] for name in (MODEL_FILE, CONFIG_FILE)})
            }
        if not any(file_in(folder, name) for name in OTHER_TOKENIZERS):
            raise InputInvalid(
                "M301",
                f"the model folder has no {TOKENIZER_FILE}, and nothing to make one of",
                where=Where(file=str(folder)),
                hint="copy the tokenizer's files of the model it was trained from",
            )
        return files | {TOKENIZER_FILE: tokenizer_json(folder)}
    if set(added_elsewhere(files)) - set(_added(files)):
        return files | {TOKENIZER_FILE: tokenizer_json(folder)}
    return files


def added_elsewhere(files: Mapping[str, bytes]) -> Iterator[str]:
    """The tokens that files beside tokenizer.json add to the vocabulary."""
    settings = _mapping(files, CONFIG_FILE)
    decoder = settings.get("added_tokens_decoder")
    rows = list(decoder.values()) if isinstance(decoder, Mapping) else []
    for listed in (settings, _mapping(files, SPECIALS_FILE)):
        for key in LISTS:
            named = listed.get(key)
            rows += list(named.values()) if isinstance(named, Mapping) else named if isinstance(named, list) else []
    rows += list(_mapping(files, ADDED_FILE))
    for row in rows:
        text = row.get("content") if isinstance(row, Mapping) else row
        if isinstance(text, str):
            yield text


def _added(files: Mapping[str, bytes]) -> Iterator[str]:
    """The added tokens in tokenizer.json, without reading its quarter of a million others."""
    text = files[TOKENIZER_FILE].decode(errors="replace")
    begin = re.search(r'"added_tokens"\s*:\s*(?=\[)', text)
    try:
        rows = json.JSONDecoder().raw_decode(text, begin.end())[0] if begin else []
    except (ValueError, RecursionError):
        return
    for row in rows:
        if isinstance(row, Mapping) and isinstance(row.get("content"), str):
            yield row["content"]


def _mapping(files: Mapping[str, bytes], name: str) -> Mapping[str, Any]:
    """A file's JSON object; empty where there is none, or one that is broken: the reader names that."""
    try:
        value = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}
