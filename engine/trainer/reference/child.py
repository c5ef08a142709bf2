"""The process that imports transformers: its classes read a folder, and say what they read.

In: a verb, a folder and a file to write. Out: that file. Nothing else in the engine imports transformers: it takes a
second and a half, imports torch where that is installed, and warns by Python's warnings; none of this belongs into a
process that trains.

    python -m engine.trainer.reference.child read FOLDER ANSWER.json     # of FOLDER/export and, if there, FOLDER/base
    python -m engine.trainer.reference.child convert FOLDER tokenizer.json
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

DTYPES = ("dtype", "torch_dtype")  # left out: for them the class imports torch
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
MOST_WORDS = 300  # of an error


def read(folder: Path, answer: Path, probes: list[str]) -> None:
    """What transformers makes of the folders in this one, and of the texts; its errors as sentences."""
    said = {part.name: _configuration(part) for part in sorted(folder.iterdir()) if part.is_dir()}
    said["export"] |= _encoding(folder / "export", probes)
    answer.write_text(json.dumps(said, default=str), encoding="utf-8")


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        mapping = json.loads((folder / "config.json").read_bytes())
        return {"config": class_reading(mapping), "defaults": class_defaults(mapping["model_type"])}
    except ImportError:  # no opinion of transformers, but a broken installation
        raise
    except Exception as error:  # noqa: BLE001 - whatever it refuses is the answer
        return {"config_error": sentence(error)}


def _encoding(folder: Path, probes: list[str]) -> dict[str, Any]:
    try:
        tokenizer = _tokenizer(folder)
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in probes]
        return {"ids": ids, **{name: getattr(tokenizer, name) for name in IDS}}
    except Exception as error:  # noqa: BLE001 - as above
        return {"tokenizer_error": sentence(error)}


def class_reading(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that the configuration class of the mapping's ``model_type`` has, defaults included."""
    given = {key: value for key, value in mapping.items() if key not in DTYPES}
    if isinstance(given.get("text_config"), Mapping):
        given["text_config"] = {key: value for key, value in given["text_config"].items() if key not in DTYPES}
    full: dict[str, Any] = transformers.CONFIG_MAPPING[given["model_type"]].from_dict(given).to_dict()
    return full


def class_defaults(model_type: str) -> dict[str, Any]:
    """Every value that the class gives itself."""
    full: dict[str, Any] = transformers.CONFIG_MAPPING[model_type]().to_dict()
    return full


def convert(folder: Path, answer: Path) -> None:
    """The tokenizer.json of a folder that has none, or one without the tokens that its other files add."""
    _tokenizer(folder).backend_tokenizer.save(str(answer))


def _tokenizer(folder: Path) -> Any:
    """By the folder's files alone: no network, no code of a stranger."""
    return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def sentence(error: Exception) -> str:
    """An error in one line: "ValueError: two lines"."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MOST_WORDS]


def _die_with_parent() -> None:
    """The parent holds a pipe open as long as it lives."""

    def watch() -> None:
        while os.read(PARENT, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


PARENT = 0  # standard input: first the probes, one line, then nothing until the parent ends


def main(arguments: list[str]) -> int:
    """Do it; a failure is one sentence on standard error."""
    verb, folder, answer = arguments[0], Path(arguments[1]), Path(arguments[2])
    probes = json.loads(_first_line())
    _die_with_parent()
    try:
        if verb == "convert":
            convert(folder, answer)
        else:
            read(folder, answer, probes)
    except Exception as error:  # noqa: BLE001 - the parent makes a message of it
        sys.stderr.write(f"{sentence(error)}\n")
        return 1
    return 0


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(PARENT, 1 << 16)
        if not piece:
            break
        line += piece
    return line or b"[]"


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # the watching thread waits in a read
