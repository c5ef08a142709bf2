"""How much memory and disk training takes, by arithmetic on the model's shapes. An estimate, and called one.

What goes in: a configuration with Hugging Face's keys, and the arguments of ``train_sft``. What comes out:
bytes, term by term. No JAX; the compilers will give exact answers later.

    >>> param_count(KNOWN_CONFIGS["google/gemma-2b"])
    2506172416

The terms of the peak, in bytes (w = bytes of the dtype, P parameters, M = B*T tokens of one micro-batch):

    weights       P w
    optimizer     AdamW 8 P; Adafactor 4 (rows + columns) of each matrix, 4 n of each vector
    accumulated   P w where gradients of several micro-batches are summed, else 0
    layer_inputs  L M D w: what is kept for the backward pass, in which each layer is recomputed
    backward      the larger of its two ends:
                  at the logits  3 V 4 min(M, 1024) + V D w: logits, softmax, gradient of one chunk; embedding
                  at the layers  P w + M (n D + 2 N H + 2 K H + 3 F) w + 2 B N T T 4: gradients, one layer;
                                 n is the number of its norms over the width, 2 in Gemma 1, 4 in Gemma 2 and 3

For Gemma 2B in bf16 with Adafactor at length 512 on one chip this gives 9.5 GiB for 1 row and 10.1 for 8; the
TPU compiler says 9.53 and 10.27.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

LOGITS_CHUNK_TOKENS = 1024
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


# What tells the families' shapes apart (tests/trainer_model holds them and the trainer's own tables together).
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
_GEMMA_3_4B = _of("gemma3", 262_208, 2560, 10_240, 34, 8, 4, 256)  # its text part

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
}

# What a Gemma 3's "text_config" leaves out.
NESTED_DEFAULTS: Mapping[str, Any] = {**_of("gemma3", 262_208, 2304, 9216, 26, 8, 4, 256)}


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration itself, or its text part where it nests one (Gemma 3 from 4B on)."""
    nested = config.get("text_config")
    return {**NESTED_DEFAULTS, **nested} if isinstance(nested, Mapping) else config


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


def optimizer_bytes(config: Mapping[str, Any], optimizer: str) -> int:
    """The optimizer's state."""
    if optimizer == "adamw":
        return 2 * 4 * param_count(config)  # float32, whatever the weights are
    # Adafactor keeps a row and a column of float32 statistics for a matrix, all of them for a vector.
    return sum(4 * sum(shape) for shape in weight_shapes(config))


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


def accumulates(args: Mapping[str, Any], devices: int) -> bool:
    """Does a train step take several micro-batches on so many devices?"""
    declared = args.get("global_batch_size")
    if declared is None:
        return int(args["grad_accum_steps"]) > 1
    places = max(1, devices // int((args.get("mesh") or {}).get("tp", 1)))
    return int(declared) > int(args["per_device_batch_size"]) * places


def training_bytes(config: Mapping[str, Any], args: Mapping[str, Any], devices: int = 1) -> dict[str, int]:
    """The terms of the peak on one of ``devices``, which holds the whole model.

    With adapters the weights have no gradients and no statistics; the adapters' own are float32.
    """
    bytes_each = DTYPE_BYTES[str(args["dtype"])]
    batch, length = int(args["per_device_batch_size"]), int(args["seq_len"])
    vocab, width, ffn, depth, heads, kv_heads, head_dim = (int(config[key]) for key in NEEDED)
    tokens = batch * length
    params = param_count(config)
    per_token = norms(config).width * width + 2 * heads * head_dim + 2 * kv_heads * head_dim + 3 * ffn
    at_logits = 3 * vocab * 4 * min(tokens, LOGITS_CHUNK_TOKENS) + vocab * width * bytes_each
    one_layer = tokens * per_token * bytes_each + 2 * batch * heads * length * length * 4
    if args.get("method") == "lora":
        adapters = adapter_params(config, args)
        statistics = 8 if args["optimizer"] == "adamw" else 4
        return {
            "weights": params * bytes_each + 4 * adapters,
            "optimizer": statistics * adapters,
            "accumulated": 4 * adapters * accumulates(args, devices),
            "layer_inputs": depth * tokens * width * bytes_each,
            "backward": max(at_logits - vocab * width * bytes_each, 4 * adapters + one_layer),
        }
    return {
        "weights": params * bytes_each,
        "optimizer": optimizer_bytes(config, str(args["optimizer"])),
        "accumulated": params * bytes_each * accumulates(args, devices),
        "layer_inputs": depth * tokens * width * bytes_each,
        "backward": max(at_logits, params * bytes_each + one_layer),
    }


def disk_bytes(config: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, int]:
    """What stays on disk: the checkpoints that are kept, one more while it is written, the exported model."""
    bytes_each = DTYPE_BYTES[str(args["dtype"])]
    weights = param_count(config) * bytes_each
    checkpoint = weights + optimizer_bytes(config, str(args["optimizer"]))
    model = exported = weights * len(args.get("export_formats", ("safetensors",)))
    if args.get("method") == "lora":
        adapters = 4 * adapter_params(config, args)
        checkpoint = adapters * (3 if args["optimizer"] == "adamw" else 2)
        model = adapters + exported * bool(args["lora_merge"])
    every = int(args["num_train_steps"]) // int(args["keep_every_steps"]) if args.get("keep_every_steps") else 0
    kept = int(args["keep_checkpoints"]) + int(args.get("keep_best") or 0) + every
    return {"checkpoints": checkpoint * (kept + 1), "model": model}
