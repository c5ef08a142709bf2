"""The configurations of models: ``config.json`` and ``model.config``, read by one function for all who ask.

In: a mapping with Hugging Face's keys, or a model folder. Out: a typed configuration, or one error with every finding.
``validate`` and ``plan`` ask before a run, the trainer when it loads; no framework is imported.

    >>> config = config_from_hf({"model_type": "gemma", "vocab_size": 260, "hidden_size": 32,
    ...     "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    ...     "num_key_value_heads": 1, "head_dim": 16})
    >>> config.head_dim
    16

``decoder``  what all families share; one file for each family beside it
``folder_files``  the files of a model folder, by name
``keys``     what a key is that no family reads
``values``   single values, rotary positions in both styles
``shapes``   the shapes of a model's tensors, and what is counted from them
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import InputInvalid, Where, did_you_mean
from engine.model_config.decoder import DecoderConfig
from engine.model_config.folder_files import file_in
from engine.model_config.gemma import GemmaConfig
from engine.model_config.gemma2 import Gemma2Config
from engine.model_config.gemma3 import Gemma3Config
from engine.model_config.values import ConfigMapping

__all__ = [
    "CONFIGS",
    "DecoderConfig",
    "Reading",
    "config_from_hf",
    "read_config",
    "read_folder",
    "read_mapping",
    "stored_dtype",
]

CONFIG_FILE = "config.json"
MOST_BYTES = 16 << 20  # a hundred times the largest
MOST_NAMED = 6
DTYPES = ("float32", "bfloat16", "float16")  # that weights are read in
# By Hugging Face's ``model_type``.
CONFIGS: dict[str, type[DecoderConfig]] = {
    "gemma": GemmaConfig,
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3Config,
    "gemma3": Gemma3Config,  # the text part of the 4B and larger
}


class Reading(NamedTuple):
    """A configuration, and the keys of its file that no family reads and that change nothing."""

    config: DecoderConfig
    read_past: tuple[str, ...]

    def note(self) -> str | None:
        """A sentence about the keys that were read past; None without any.

        >>> Reading(None, ("unsloth_fixed",)).note()
        'config.json: 1 key read past, which changes nothing that is computed (unsloth_fixed)'
        """
        count = len(self.read_past)
        if not count:
            return None
        names = ", ".join(self.read_past[:MOST_NAMED]) + ", …" * (count > MOST_NAMED)
        what = "1 key read past, which changes" if count == 1 else f"{count} keys read past, which change"
        return f"{CONFIG_FILE}: {what} nothing that is computed ({names})"


def read_folder(folder: str | Path) -> Reading:
    """The configuration of a model folder. Raises InputInvalid M101 to M108."""
    mapping, source = read_config(folder), str(Path(folder) / CONFIG_FILE)
    reading = read_mapping(mapping, source)
    stored_dtype(mapping, source)
    return reading


def config_from_hf(mapping: ConfigMapping, source: str = CONFIG_FILE) -> DecoderConfig:
    """The configuration alone, see :func:`read_mapping`."""
    return read_mapping(mapping, source).config


def read_mapping(mapping: ConfigMapping, source: str = CONFIG_FILE) -> Reading:
    """Dispatch on ``model_type``. Raises InputInvalid M101 for an unknown family, M102 to M108 for its keys."""
    model_type = mapping.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIGS:
        known = ", ".join(sorted(CONFIGS))
        near = did_you_mean(str(model_type), CONFIGS)
        problem = "has no model_type" if model_type is None else f"has the unknown model_type {model_type!r}"
        raise InputInvalid(
            "M101",
            f"the configuration {problem} (known: {known})",
            where=Where(file=source, path="model_type"),
            hint=f'did you mean "{near}"?' if near else f"use a model of one of these families: {known}",
        )
    return Reading(*CONFIGS[model_type].read(mapping, source))


def stored_dtype(mapping: Mapping[str, object], source: str = CONFIG_FILE) -> str:
    """The dtype a config.json names ("dtype" in transformers 5, "torch_dtype" in 4); float32 if none."""
    nested = mapping.get("text_config")
    levels = [mapping, *([nested] if isinstance(nested, Mapping) else [])]
    name = next((level[key] for level in levels for key in ("dtype", "torch_dtype") if level.get(key)), "float32")
    if not isinstance(name, str) or name not in DTYPES:
        raise InputInvalid(
            "M105", f"dtype {name!r} is not one of {', '.join(DTYPES)}", where=Where(file=source, path="dtype")
        )
    return name


def read_config(folder: str | Path) -> dict[str, Any]:
    """The mapping of ``config.json``. Raises InputInvalid M106 where it is missing, unreadable or not a JSON object."""
    path = file_in(Path(folder), CONFIG_FILE, "M106")
    if path is None:
        message, where = f"the model folder has no {CONFIG_FILE}", Where(file=str(folder))
        raise InputInvalid("M106", message, where=where, hint=NO_MODEL)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _unreadable(path, f"larger than {MOST_BYTES >> 20} MiB: not a configuration")
        mapping = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"not JSON: {error}") from error
    if not isinstance(mapping, Mapping):
        raise _unreadable(path, "must be a JSON object")
    return dict(mapping)


NO_MODEL = (
    "name a folder that holds config.json, tokenizer.json and model.safetensors or flax_model.msgpack; of google/gemma-2b "
    "the revision main has the first, flax the second"
)


def _unreadable(path: Path, message: str) -> InputInvalid:
    return InputInvalid("M106", message, where=Where(file=str(path)), hint="fetch or copy the file again")
