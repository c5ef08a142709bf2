"""What a train step holds beside its state: what the forward pass saves, by remat policy, and what the backward pass works on.

In: :class:`Sizes`, the lengths of one device's arrays after the mesh. Out: bytes.

Which arrays a policy saves is what differentiation of a layer keeps (``jax.vjp`` of it; engine.trainer.models.layers):

    offload   nothing on the device; one layer's input on its way
    block     M D: the input
    dots      the input and the outputs of the matmuls with weights: q, k, v, o, gate, up, and down where a norm follows it;
              with adapters also their outputs, in float32. Nothing more than the input where operands are float16
    none      every operand of every product: of the MLP 8 M F; of a norm three float32 of its input; of attention the
              queries, the mixed values and the probabilities, the latter twice and once as a mask. With adapters 7 M F, two
              float32 of a norm, and each adapter's input in float32

Legend: M tokens of one device's rows, D width, F ffn, N heads, T length; all but D after tp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.model_config.shapes import DTYPE_BYTES, norms
from engine.preflight.shards import Leaf, Mesh
from engine.protocol.machines import Machine
from engine.protocol.train_args import PLAIN_ATTENTION_TOKENS

MOST_LOGITS, MOST_GRADIENTS = 1 << 26, 1 << 24  # numbers in a block of the head (engine.trainer.ops.cross_entropy)
PIECE, MOST_PIECES = 64, 4  # attention takes the queries in pieces (engine.trainer.models.layers)
MAX_UNROLLED_LAYERS = 8  # (engine.trainer.models.decoder)


class Sizes(NamedTuple):
    """Lengths on one device. ``item``: bytes of a number as it is computed, ``stored``: of a weight.

    ``all_tokens``: of all devices, which the head multiplies.
    """

    item: int
    stored: int
    matmul_dtype: str
    platform: str
    devices: int
    tokens: int
    all_tokens: int
    length: int
    depth: int
    width: int
    ffn: int
    heads: int
    queries: int  # heads times head dimension
    keys: int
    vocab: int  # rows of the head's table on one device
    norms: int
    head_norms: bool
    softcap: bool
    has_scores: bool
    in_backward: bool
    lora_rank: int  # 0 without adapters
    lora_targets: tuple[str, ...]
    lora_dropout: bool


def sizes_of(config: Mapping[str, Any], args: Mapping[str, Any], machine: Machine, mesh: Mesh) -> Sizes:
    """From the arguments of train_sft."""

    def over_tp(key: str, unit: int = 1) -> int:
        count = int(config[key])
        return unit * (count // mesh.tp if count % mesh.tp == 0 else count)

    length, head = int(args["seq_len"]), int(config["head_dim"])
    tokens, vocab = int(args["per_device_batch_size"]) * length, int(config["vocab_size"])
    attention = str(args.get("attention", "auto"))
    dtype, declared = str(args["dtype"]), str(args.get("matmul_dtype", "auto"))
    multiplied_in = machine.multiplies_bfloat16_in if dtype == "bfloat16" else dtype
    is_lora, gains = args.get("method") == "lora", norms(config)
    return Sizes(
        # XLA's CPU backend computes elementwise in float32, and keeps what it has so.
        item=DTYPE_BYTES["float32" if machine.platform == "cpu" else dtype],
        stored=DTYPE_BYTES[dtype],
        matmul_dtype=multiplied_in if declared == "auto" else declared,
        platform=machine.platform,
        devices=mesh.devices,
        tokens=tokens,
        all_tokens=tokens * mesh.fsdp,
        length=length,
        depth=int(config["num_hidden_layers"]),
        width=int(config["hidden_size"]),
        ffn=over_tp("intermediate_size"),
        heads=over_tp("num_attention_heads"),
        queries=over_tp("num_attention_heads", head),
        keys=over_tp("num_key_value_heads", head),
        vocab=vocab // mesh.devices if vocab % mesh.devices == 0 else vocab,
        norms=gains.width,
        head_norms=gains.head > 0,
        softcap=config.get("model_type") == "gemma2",
        has_scores=attention == "plain" or (attention == "auto" and length <= PLAIN_ATTENTION_TOKENS),
        in_backward=args.get("update") == "in_backward",
        lora_rank=int(args["lora_rank"]) if is_lora else 0,
        lora_targets=tuple(args["lora_targets"]) if is_lora else (),
        lora_dropout=is_lora and bool(args.get("lora_dropout")),
    )


def accumulates(args: Mapping[str, Any], mesh: Mesh) -> bool:
    """Does a train step take several micro-batches?"""
    declared = args.get("global_batch_size")
    if declared is None:
        return int(args["grad_accum_steps"]) > 1
    return int(declared) > int(args["per_device_batch_size"]) * mesh.fsdp


def saved_bytes(sizes: Sizes, remat: str) -> int:
    """Of all layers."""
    if sizes.depth <= MAX_UNROLLED_LAYERS:  # the compiler sees all layers at once and saves what it wants
        return int(sizes.depth * sizes.tokens * _unrolled(sizes))
    if remat == "offload":
        return 0
    each = {"none": _everything, "dots": _matmuls, "block": _input}[remat](sizes)
    return int(sizes.depth * sizes.tokens * each)


def _input(sizes: Sizes) -> float:
    """Bytes a token and layer."""
    return sizes.width * sizes.item


def _matmuls(sizes: Sizes) -> float:
    if sizes.matmul_dtype == "float16" or (sizes.matmul_dtype == "bfloat16" and _narrows(sizes)):
        # A matmul with a gradient of its own (engine.trainer.ops.matmul): the policy sees none in it to save.
        return _input(sizes) + _adapters(sizes)
    outputs = sizes.width + sizes.queries + 2 * sizes.keys + 2 * sizes.ffn + sizes.width * (sizes.norms > 2)
    each = max(sizes.item, DTYPE_BYTES[sizes.matmul_dtype])
    return _input(sizes) + outputs * each + _adapters(sizes)


def _narrows(sizes: Sizes) -> bool:
    """Whether bfloat16 operands come by a rule: from float32 weights, or on a CPU."""
    return sizes.stored == DTYPE_BYTES["float32"] or sizes.platform == "cpu"


def _adapters(sizes: Sizes) -> float:
    """float32 outputs of the adapters' matmuls."""
    wide = {"q_proj": sizes.queries, "k_proj": sizes.keys, "v_proj": sizes.keys, "o_proj": sizes.width,
            "gate_proj": sizes.ffn, "up_proj": sizes.ffn,
            "down_proj": sizes.width * (sizes.norms > 2)}  # fmt: skip
    return 4 * sum(wide[name] + 2 * sizes.lora_rank for name in sizes.lora_targets)


def _everything(sizes: Sizes) -> float:
    """Of a frozen matrix the input is not needed; that of its adapter is, in float32."""
    item = sizes.item
    attention: float = sizes.queries * (2 * item + 4) + 5 * sizes.keys * item
    attention += (8 if sizes.lora_rank else 12) * (sizes.queries + sizes.keys) * sizes.head_norms
    attention += _scores(sizes) * (4 + item + (sizes.norms > 2) + 8 * sizes.softcap)
    if not sizes.lora_rank:
        return 8 * sizes.ffn * item + (12 * sizes.norms + 2 * item) * sizes.width + attention
    adapters = _adapter_inputs(sizes) + 8 * sizes.lora_rank * len(sizes.lora_targets)
    return 7 * sizes.ffn * item + 8 * sizes.norms * sizes.width + attention + adapters


def _adapter_inputs(sizes: Sizes) -> float:
    """float32; of q, k and v one array, of gate and up another. With dropout each target has its own, and a mask."""
    widths = {"o_proj": sizes.queries, "down_proj": sizes.ffn}
    if sizes.lora_dropout:
        return 5 * sum(widths.get(name, sizes.width) for name in sizes.lora_targets)
    shared = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}
    return 4 * sum(widths.get(name, sizes.width) for name in {shared.get(name, name) for name in sizes.lora_targets})


def _unrolled(sizes: Sizes) -> float:
    numbers = 5 * sizes.ffn + 3 * sizes.norms * sizes.width + 2 * sizes.queries + sizes.keys
    return numbers * sizes.item + 4 * _scores(sizes)


def _scores(sizes: Sizes) -> float:
    """Scores a token: of all heads with the keys up to the last of the token's piece; none where attention is in blocks."""
    pieces = -(-sizes.length // (PIECE * -(-sizes.length // (PIECE * MOST_PIECES))))
    return sizes.has_scores * sizes.heads * sizes.length * (pieces + 1) / (2 * pieces)


def working_bytes(sizes: Sizes, trained: Sequence[Leaf]) -> int:
    """The larger of the two ends of the backward pass, with the gradients that exist there."""
    gradients = sum(leaf.on_device for leaf in trained) * (4 if sizes.lora_rank else sizes.item)
    table = 0 if sizes.lora_rank else sizes.vocab * sizes.width * sizes.item
    if sizes.platform == "cpu":  # its compiler copies the table's gradient
        gradients, table = gradients + table, 2 * table
        if sizes.stored < sizes.item and sizes.all_tokens * sizes.vocab > MOST_LOGITS:  # … and makes a wide one of it
            gradients += sizes.vocab * sizes.width * sizes.item
    if sizes.in_backward:
        gradients, table = (gradients - table) // sizes.depth, 0
    return max(table + _at_head(sizes), gradients + _at_layer(sizes))


def _at_head(sizes: Sizes) -> int:
    tokens = sizes.all_tokens
    rows = max(1, min(MOST_LOGITS // (tokens * sizes.devices), MOST_GRADIENTS // sizes.width, sizes.vocab))
    return 8 * rows * tokens + 8 * rows * sizes.width + 8 * tokens * sizes.width


def _at_layer(sizes: Sizes) -> int:
    if sizes.depth <= MAX_UNROLLED_LAYERS:
        return 2 * sizes.tokens * sizes.ffn * sizes.item
    scores = 16 * sizes.tokens * _scores(sizes)
    if sizes.matmul_dtype == "float16":  # operands are scaled in float32, and a copy of the matrices is made
        numbers = (8 if sizes.lora_rank else 3) * sizes.ffn + 4 * sizes.width + 2 * sizes.queries
        return int(4 * sizes.tokens * numbers + scores + 4 * sizes.width * sizes.ffn)
    inner = 2 * sizes.queries + 2 * sizes.keys + 3 * sizes.ffn
    gathered = 2 * sizes.width * sizes.ffn * sizes.item if sizes.devices > 1 else 0
    return int(2 * sizes.tokens * (sizes.norms * sizes.width + inner) * sizes.item + scores + gathered)
