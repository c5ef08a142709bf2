"""How much memory and disk training takes, by arithmetic on the model's shapes: an estimate.

In: a configuration with Hugging Face's keys, and the arguments of ``train_sft``. Out:
bytes, term by term. No JAX; engine.preflight.exact has the compilers' answers.

    >>> param_count(KNOWN_CONFIGS["google/gemma-2b"])
    2506172416

The terms of the peak on one of n devices, in bytes (w = bytes of the dtype, P parameters, B rows of one micro-batch on
one device along fsdp, M = B*T of their tokens; tp divides N, K and F):

    weights       P w / n
    optimizer     AdamW 8 P / n; Adafactor 4 (rows + columns) of each matrix, 4 n of each vector, over n; master_weights
                  4 P / n more
    accumulated   P w / n where gradients of several micro-batches are summed, else 0
    layer_inputs  L M D w: what is saved for the backward pass, in which each layer is recomputed
    backward      the larger of its two ends:
                  at the head    V D w / n + 8 r M + 8 2^24 + 8 M D: the table's gradient; logits of a block of r rows
                                 of the table, its gradient, the input's
                  at the layers  P w / n + 2 M (n D + 2 N H + 2 K H + 3 F) w + 4 B N T T 4: all gradients, a layer's
                                 activations and theirs (scores in blocks do not count); over several devices 2 D F w:
                                 the largest matrix gathered, and its gradient before it is scattered

With ``update: in_backward`` only one layer's gradient exists at a time. For Gemma 2B the compilers of TPUs and GPUs
answered within 13 % of this on the nine steps of full training of `benchmarks/memory.py` (tests/preflight/test_price.py compares them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_LOGITS, MOST_GRADIENTS = 1 << 26, 1 << 24  # numbers in a block of the head (engine.trainer.ops.cross_entropy)
PLAIN_ATTENTION_TOKENS = 1024  # beyond it `attention: auto` computes scores in blocks (engine.protocol.train_args)
CHECKPOINT_SHARE, CHECKPOINT_FIXED_BYTES = 0.02, 1 << 20  # (engine.trainer.checkpoint.disk_space)
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


def accumulates(args: Mapping[str, Any], devices: int) -> bool:
    """Does a train step take several micro-batches on so many devices?"""
    declared = args.get("global_batch_size")
    if declared is None:
        return int(args["grad_accum_steps"]) > 1
    data_parallel_size = max(1, devices // _tp(args))
    return int(declared) > int(args["per_device_batch_size"]) * data_parallel_size


def _working_bytes(config: Mapping[str, Any], args: Mapping[str, Any], devices: int) -> tuple[int, int]:
    """Temporaries at both ends of the backward pass, without the gradients: (at the head, at a layer)."""
    bytes_each, tp = DTYPE_BYTES[str(args["dtype"])], _tp(args)
    batch, length = int(args["per_device_batch_size"]), int(args["seq_len"])
    _, width, ffn, _, heads, kv_heads, head_dim = (int(config[key]) for key in NEEDED)
    tokens = batch * length
    rows = min(MOST_LOGITS // tokens, MOST_GRADIENTS // width)
    head = 8 * rows * tokens + 8 * MOST_GRADIENTS + 8 * tokens * width
    inner = (2 * heads * head_dim + 3 * ffn) // tp + 2 * kv_heads * head_dim
    attention = str(args.get("attention", "auto"))
    is_plain = attention == "plain" or (attention == "auto" and length <= PLAIN_ATTENTION_TOKENS)
    scores = 4 * batch * heads // tp * length * length * 4 * is_plain
    gathered = 2 * width * ffn * bytes_each if devices > 1 else 0
    return head, 2 * tokens * (norms(config).width * width + inner) * bytes_each + scores + gathered


def _tp(args: Mapping[str, Any]) -> int:
    return int((args.get("mesh") or {}).get("tp") or 1)


def training_bytes(config: Mapping[str, Any], args: Mapping[str, Any], devices: int = 1) -> dict[str, int]:
    """The terms of the peak on one of ``devices``, over which weights, gradients and statistics are sharded.

    With adapters the weights have no gradients and no statistics; the adapters' own are float32.
    """
    bytes_each = DTYPE_BYTES[str(args["dtype"])]
    tokens = int(args["per_device_batch_size"]) * int(args["seq_len"])
    vocab, width, _, depth, *_ = (int(config[key]) for key in NEEDED)
    weights, table = param_count(config) * bytes_each // devices, vocab * width * bytes_each // devices
    at_head, at_layer = _working_bytes(config, args, devices)
    layer_inputs = depth * tokens * width * bytes_each
    if args.get("method") == "lora":
        adapters = adapter_params(config, args)
        statistics = 8 if args["optimizer"] == "adamw" else 4
        return {
            "weights": weights + 4 * adapters // devices,
            "optimizer": statistics * adapters // devices,
            "accumulated": 4 * adapters * accumulates(args, devices) // devices,
            "layer_inputs": layer_inputs,
            "backward": max(at_head, 4 * adapters // devices + at_layer),
        }
    one_layer = (weights - table) // depth
    gradients = (0, one_layer) if args.get("update") == "in_backward" else (table, weights)
    return {
        "weights": weights,
        "optimizer": optimizer_bytes(config, args) // devices,
        "accumulated": weights * accumulates(args, devices),
        "layer_inputs": layer_inputs,
        "backward": max(gradients[0] + at_head, gradients[1] + at_layer),
    }


def disk_bytes(config: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, int]:
    """Disk space: the kept checkpoints, one more while it is written, the exported model."""
    bytes_each = DTYPE_BYTES[str(args["dtype"])]
    weights = param_count(config) * bytes_each
    checkpoint = weights + optimizer_bytes(config, args)
    model = exported = weights * len(args.get("export_formats", ("safetensors",)))
    if args.get("method") == "lora":
        adapters = 4 * adapter_params(config, args)
        checkpoint = adapters * (3 if args["optimizer"] == "adamw" else 2)
        model = adapters + exported * bool(args["lora_merge"])
    every = int(args["num_train_steps"]) // int(args["keep_every_steps"]) if args.get("keep_every_steps") else 0
    kept = int(args["keep_checkpoints"]) + int(args.get("keep_best") or 0) + every
    return {"checkpoints": checkpoint_size(checkpoint) * (kept + 1), "model": model}


def checkpoint_size(numbers: int) -> int:
    """Bytes of a checkpoint's files that hold so many bytes of arrays, as the trainer counts them (engine.trainer.checkpoint.disk_space)."""
    return int(numbers * (1 + CHECKPOINT_SHARE)) + CHECKPOINT_FIXED_BYTES
