"""A model's shapes and what is counted from them: parameters, adapters, the optimizer's state, published files.

In: a configuration with Hugging Face's keys, and the arguments of ``train_sft``. Out: numbers and bytes. No JAX;
engine.preflight.estimate makes the memory of a train step of it, engine.preflight.disks the disk space of a run.

    >>> param_count(KNOWN_CONFIGS["google/gemma-2b"])
    2506172416
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

NEEDED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


class Norms(NamedTuple):
    """How many norms a layer of a family has: over the width, and over the width of one head."""

    width: int
    head: int = 0


# What tells the families' shapes apart (tests/trainer compares them with the trainer's own tables).
FAMILY_NORMS: Mapping[str, Norms] = {
    "gemma": Norms(2), "gemma2": Norms(4), "gemma3_text": Norms(4, 2), "gemma3": Norms(4, 2),
}  # fmt: skip


def _of(model_type: str, *values: int) -> dict[str, Any]:
    return {"model_type": model_type, **dict(zip(NEEDED, values, strict=True))}


# Tokenizers that are built here -> tokens in their vocabulary.
TOKENIZER_VOCABULARY: Mapping[str, int] = {"chars": 260}

_GEMMA_2B = _of("gemma", 256_000, 2048, 16_384, 18, 8, 1, 256)
_GEMMA_7B = _of("gemma", 256_000, 3072, 24_576, 28, 16, 16, 256)
_GEMMA_2_2B = _of("gemma2", 256_000, 2304, 9216, 26, 8, 4, 256)
_GEMMA_2_9B = _of("gemma2", 256_000, 3584, 14_336, 42, 16, 8, 256)
_GEMMA_3_270M = _of("gemma3_text", 262_144, 640, 2048, 18, 4, 1, 256)
_GEMMA_3_1B = _of("gemma3_text", 262_144, 1152, 6912, 26, 4, 1, 256)
_GEMMA_3_4B = _of("gemma3_text", 262_208, 2560, 10_240, 34, 8, 4, 256)  # its text part
# Also a text part: Gemma3_12B of google-deepmind/gemma (gm/nn/gemma3.py), and the vocabulary of
# huggingface.co/OpenPipe/gemma-3-12b-it-text-only/blob/main/config.json, read 2026-11-30.
_GEMMA_3_12B = _of("gemma3_text", 262_208, 3840, 15_360, 48, 16, 8, 256)

# Models whose configuration is known without asking the hub.
KNOWN_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "google/gemma-2b": _GEMMA_2B,
    "google/gemma-2b-it": _GEMMA_2B,
    "google/gemma-7b": _GEMMA_7B,
    "google/gemma-7b-it": _GEMMA_7B,
    "google/gemma-2-2b": _GEMMA_2_2B,
    "google/gemma-2-2b-it": _GEMMA_2_2B,
    "google/gemma-2-9b": _GEMMA_2_9B,
    "google/gemma-2-9b-it": _GEMMA_2_9B,
    "google/gemma-3-270m": _GEMMA_3_270M,
    "google/gemma-3-270m-it": _GEMMA_3_270M,
    "google/gemma-3-1b-pt": _GEMMA_3_1B,
    "google/gemma-3-1b-it": _GEMMA_3_1B,
    "google/gemma-3-4b-pt": _GEMMA_3_4B,
    "google/gemma-3-4b-it": _GEMMA_3_4B,
    "google/gemma-3-12b-pt": _GEMMA_3_12B,
    "google/gemma-3-12b-it": _GEMMA_3_12B,
}


def known_id(model_id: str, kaggle: str | None) -> str:
    """The hub's id of the same weights, by which the tables of this module have a model on Kaggle; any other is its own.

    >>> known_id("x", "google/gemma/transformers/2b/3"), known_id("x", "google/gemma-2/flax/gemma2-2b-it/1")
    ('google/gemma-2b', 'google/gemma-2-2b-it')
    >>> known_id("x", "google/gemma-3/flax/gemma3-1b/1"), known_id("x", "someone/gemma/flax/2b/1")
    ('google/gemma-3-1b-pt', 'x')
    """
    owner, model, _, variation, _ = (kaggle or "////").split("/")
    if owner != "google" or not model.startswith("gemma"):
        return model_id
    name = variation if variation.startswith("gemma") else f"gemma-{variation.removeprefix('1.1-')}"
    name = re.sub(r"^gemma(?=[23]-)", "gemma-", name)
    return next((known for known in (f"google/{name}", f"google/{name}-pt") if known in KNOWN_CONFIGS), model_id)


# Bytes of the published safetensors where they are not two for each parameter of the text part: float32, or with the
# vision part. From the index of each repository on huggingface.co, as it was on 2026-11-29.
PUBLISHED_BYTES: Mapping[str, int] = {
    "google/gemma-2-2b": 10_457_367_552,
    "google/gemma-2-9b": 36_966_823_936,
    "google/gemma-3-4b-pt": 8_600_158_944,
    "google/gemma-3-4b-it": 8_600_158_944,
}


def norms(config: Mapping[str, Any]) -> Norms:
    """The norms of one layer; a configuration that names no family is a Gemma 1."""
    return FAMILY_NORMS.get(str(config.get("model_type", "gemma")), FAMILY_NORMS["gemma"])


def weight_shapes(config: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shape of every tensor of a Gemma with a tied head: embedding, each layer's matrices and norms, last norm."""
    vocab, width, ffn, depth, heads, kv_heads, head_dim = (int(config[key]) for key in NEEDED)
    queries, keys, gains = heads * head_dim, kv_heads * head_dim, norms(config)
    layer = [
        (width, queries), (width, keys), (width, keys), (queries, width),
        (width, ffn), (width, ffn), (ffn, width), *[(width,)] * gains.width, *[(head_dim,)] * gains.head,
    ]  # fmt: skip
    return [(vocab, width), *(shape for _ in range(depth) for shape in layer), (width,)]


def param_count(config: Mapping[str, Any]) -> int:
    """Number of parameters, the tied head counted once."""
    return sum(math.prod(shape) for shape in weight_shapes(config))


def optimizer_bytes(config: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """The optimizer's state of full training, and the float32 master weights of narrower ones where there are any."""
    masters = 4 * param_count(config) * bool(args.get("master_weights") and args["dtype"] != "float32")
    if args["optimizer"] == "adamw":
        return masters + 2 * 4 * param_count(config)  # float32, whatever the weights are
    # Adafactor keeps a row and a column of float32 statistics for a matrix, all of them for a vector.
    return masters + sum(4 * sum(shape) for shape in weight_shapes(config))


def adapter_params(config: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """Numbers in the adapters of all layers: rank columns and rows beside each matrix that has one."""
    _, width, ffn, depth, heads, kv_heads, head_dim = (int(config[key]) for key in NEEDED)
    queries, keys = heads * head_dim, kv_heads * head_dim
    sides = {
        "q_proj": width + queries,
        "k_proj": width + keys,
        "v_proj": width + keys,
        "o_proj": queries + width,
        "gate_proj": width + ffn,
        "up_proj": width + ffn,
        "down_proj": ffn + width,
    }
    return depth * int(args["lora_rank"]) * sum(sides[name] for name in args["lora_targets"])


def published_bytes(model_id: str, config: Mapping[str, Any]) -> int:
    """The weights that are fetched from the hub: bfloat16 but for the exceptions above.

    >>> published_bytes("google/gemma-2b", KNOWN_CONFIGS["google/gemma-2b"])
    5012344832
    """
    return PUBLISHED_BYTES.get(model_id, 2 * param_count(config))
