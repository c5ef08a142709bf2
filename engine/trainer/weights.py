"""A model folder in Hugging Face's format: in and out, one canonical layout on disk.

What goes in: a folder with config.json, tokenizer files and weights as ``model.safetensors`` or
``flax_model.msgpack``, whole or sharded with an index; or a model to save. What comes out: a model, its
configuration and tokenizer; or a folder that transformers' GemmaForCausalLM loads with equal logits,
byte-identical for equal weights.

    save_folder(folder, model, config, tokenizer, dtype="float32")
    model, config, tokenizer = load_folder(folder, param_dtype="float32", compute_dtype="float32")

Every name in the files must be used and every weight of the model must be found; all that is left over
on either side is named in one error. Layers are stacked while reading, one file at a time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from engine.canonical import fsync_dir, pretty_json, write_atomic
from engine.errors import InputInvalid, Where
from engine.trainer.models import config_from_hf, family_of
from engine.trainer.models.config import DecoderConfig
from engine.trainer.models.decoder import Decoder
from engine.trainer.stop import GENERATION_FILE, stop_ids
from engine.trainer.tokenizer import Tokenizer
from engine.trainer.weight_files import open_weights
from engine.trainer.weight_table import Filling, stored_rows

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MOST_PADDING_ROWS = 1024  # embeddings are padded to multiples of 64 to 1024
DTYPES = ("float32", "bfloat16", "float16")


def save_folder(folder: str | Path, model: Decoder, config: DecoderConfig, tokenizer: Tokenizer, *, dtype: Any) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files.

    Weights are cast to ``dtype`` ("float32" or "bfloat16"). The bytes depend on the values alone.
    """
    folder = Path(folder)
    tensors = {}
    for key, array in model.weights().items():
        host = np.asarray(array).astype(jnp.dtype(dtype))
        tensors.update(stored_rows(family_of(config), key, host))
    save_companions(folder, config, tokenizer, dtype=dtype)
    # "format": "pt" is what transformers asks for; the library sorts names, so bytes repeat.
    _save_tensors(folder / WEIGHTS_FILE, tensors)


def save_companions(folder: str | Path, config: DecoderConfig, tokenizer: Tokenizer, *, dtype: Any) -> None:
    """Write what lies beside the weights: config.json, generation_config.json and the tokenizer's files."""
    folder = Path(folder)
    ends = stop_ids(tokenizer, {"eos_token_id": [config.eos_token_id, *config.more_eos_ids]})
    generation = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(ends) if len(ends) > 1 else ends[0],
        "pad_token_id": config.pad_token_id,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / CONFIG_FILE, pretty_json(config.to_hf(dtype=jnp.dtype(dtype).name)))
    write_atomic(folder / GENERATION_FILE, pretty_json(generation))
    tokenizer.save(folder)


def _save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Straight from the arrays to a file beside ``path``, fsync, rename: no second copy of 5 GB in memory."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def load_folder(
    folder: str | Path, *, param_dtype: Any = None, compute_dtype: Any = None
) -> tuple[Decoder, DecoderConfig, Tokenizer]:
    """Read a model folder; a dtype left out is the one config.json names (float32 if it names none).

    Raises InputInvalid: M101 to M106 for the configuration, M201 to M206 for the weights, M3xx for
    the tokenizer, M207 where tokenizer and model do not fit together.
    """
    folder = Path(folder)
    mapping = read_config(folder)
    config = config_from_hf(mapping, str(folder / CONFIG_FILE))
    tokenizer = Tokenizer.load(folder)
    _check_fit(folder, config, tokenizer)
    stored = stored_dtype(mapping, str(folder / CONFIG_FILE))
    family = family_of(config)
    filling = Filling(family, config, jnp.dtype(param_dtype or stored))
    for weights_file in open_weights(folder):
        filling.take(weights_file)
    arrays = {name: jnp.asarray(array) for name, array in filling.finish(folder)}
    model: Decoder = family.MODEL(config, arrays, compute_dtype=compute_dtype or stored)
    return model, config, tokenizer


def read_config(folder: str | Path) -> dict[str, Any]:
    """The mapping of ``config.json``. Raises InputInvalid M106 where it is missing or no JSON object."""
    path = Path(folder) / CONFIG_FILE
    try:
        mapping = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputInvalid("M106", f"the model folder has no {CONFIG_FILE}", where=Where(file=str(folder))) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InputInvalid("M106", f"not JSON: {error}", where=Where(file=str(path))) from error
    if not isinstance(mapping, dict):
        raise InputInvalid("M106", "must be a JSON object", where=Where(file=str(path)))
    return mapping


def stored_dtype(mapping: dict[str, Any], source: str = CONFIG_FILE) -> str:
    """The dtype a config.json names ("dtype" in transformers 5, "torch_dtype" in 4); float32 if none."""
    name = mapping.get("dtype") or mapping.get("torch_dtype") or "float32"
    if name not in DTYPES:
        raise InputInvalid(
            "M105", f"dtype {name!r} is not one of {', '.join(DTYPES)}", where=Where(file=source, path="dtype")
        )
    return str(name)


def _check_fit(folder: Path, config: DecoderConfig, tokenizer: Tokenizer) -> None:
    """The tokenizer's ids must be rows of the embedding, which may be padded, but is not another model's."""
    if config.vocab_size - tokenizer.vocab_size > MOST_PADDING_ROWS:
        raise InputInvalid(
            "M207",
            f"the tokenizer has only {tokenizer.vocab_size} tokens, the model's vocab_size is {config.vocab_size}",
            where=Where(file=str(folder)),
            hint="use the tokenizer the model came with",
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise InputInvalid(
            "M207",
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocab_size is {config.vocab_size}",
            where=Where(file=str(folder)),
            hint=f"set vocab_size to at least {tokenizer.vocab_size}, or use the tokenizer the model came with",
        )
