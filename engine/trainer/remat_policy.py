"""The train step, compiled to fit: ``remat: auto`` chooses the first policy whose program fits the device's memory.

In: what :func:`~engine.trainer.train_step.compile_train_step` takes, and the bytes one device has. Out: the compiled step and how it computes (:class:`~engine.trainer.loss.ComputePolicy`), for the report.

    step, policy = compile_within_limit(graphdef, args, state, batch, placement, limit=limit_bytes(device))

From the fastest to the one that needs least memory: none, dots, block, offload. A policy that cannot fit by arithmetic
(what it saves of every layer exceeds the limit) is skipped without compiling, which takes tens of seconds for a large
model. The choice is a pure function of the job, the device and the libraries: all three are in a checkpoint's identity.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.errors import JaxRuntimeError
from jax.stages import Compiled

from engine.model_config.decoder import DecoderConfig
from engine.protocol.device_memory import Allocator, fits, machine_memory_bytes, run_bytes
from engine.protocol.machines import memory_of_kind
from engine.protocol.train_args import TrainArgs, remat_policies
from engine.trainer.distributed.placement import Placement
from engine.trainer.loss import ComputePolicy
from engine.trainer.ops.fused_attention import attention_of
from engine.trainer.ops.matmul import dtype_of, matmul_rule
from engine.trainer.train_step import Arrays, GraphDef, State, compile_train_step


def compute_policy(args: TrainArgs, placement: Placement, remat: str = "none") -> ComputePolicy:
    """How this job computes on these devices, with a remat policy."""
    return ComputePolicy(remat=remat, blocked=args.blocked, shards=placement.devices, replicated=placement.replicated)


def compile_within_limit(
    graphdef: GraphDef, args: TrainArgs, state: State, batch: Arrays, placement: Placement, *, limit: int | None
) -> tuple[Compiled, ComputePolicy]:
    """The declared policy, or with ``auto`` the first that fits ``limit`` bytes a device (None: unknown, the first).

    Raises JaxRuntimeError where even the last does not compile.
    """
    remats = candidates(args, state, batch, placement, limit=limit)
    for remat in remats:
        policy = compute_policy(args, placement, remat)
        try:
            step = compile_train_step(graphdef, args, state, batch, policy)
        except JaxRuntimeError as error:  # the TPU's compiler refuses what does not fit
            if "RESOURCE_EXHAUSTED" not in str(error) or remat == remats[-1]:
                raise
            continue
        if limit is None or remat == remats[-1] or fits(peak_bytes(step, placement.platform), limit):
            return step, policy
    raise AssertionError("the last remat policy returns or raises")


def candidates(
    args: TrainArgs, state: State, batch: Arrays, placement: Placement, *, limit: int | None
) -> tuple[str, ...]:
    """The remat policies worth compiling, in order; at least the last one."""
    remats = remat_policies(args.remat, args.update, placement.platform)
    if limit is None or len(remats) == 1:
        return remats
    state_bytes = sum(local_bytes(leaf) for leaf in jax.tree.leaves(state))
    fitting = tuple(r for r in remats if state_bytes + saved_bytes(r, state, batch, placement) <= limit)
    return fitting or (remats[-1],)


def saved_bytes(remat: str, state: State, batch: Arrays, placement: Placement) -> int:
    """A lower bound of what a remat policy saves of all layers for the backward pass, bytes a device."""
    leaves = {
        jax.tree_util.keystr(path): leaf
        for part in ("params", "frozen")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.get(part, {}))
    }
    gate = next(leaf for name, leaf in leaves.items() if "gate" in name and "lora" not in name)
    depth, width, ffn = gate.shape
    tokens = batch["tokens"].shape[1] * batch["tokens"].shape[2] // placement.size.fsdp
    inputs = depth * tokens * width * gate.dtype.itemsize
    if remat == "offload":
        return 0
    if remat == "block":
        return int(inputs)
    matmuls = 2 * depth * tokens * ffn * gate.dtype.itemsize // placement.size.tp  # outputs of gate and up
    return int(inputs + matmuls)


def peak_bytes(compiled: Compiled, platform: str) -> int:
    """The compiler's own figure for one device.

    The CPU compiler's peak leaves the temporaries out; they come on top of arguments and outputs.
    """
    memory: Any = compiled.memory_analysis()
    if platform != "cpu":
        return int(memory.peak_memory_in_bytes)
    arguments_and_outputs = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(arguments_and_outputs + memory.temp_size_in_bytes)


def limit_bytes(device: jax.Device, allocator: Allocator | None = None) -> int | None:
    """What this run may take of an attached device, by the rule of the plan (:mod:`engine.protocol.device_memory`).

    JAX has applied the rule where its allocator knows a limit. Where it does not (``kind: platform``), the device's memory is
    known by its name. CPU devices share the machine's memory. None: unknown.
    """
    if device.platform == "cpu":
        total = machine_memory_bytes()
        return None if total is None else run_bytes(total // max(1, jax.local_device_count()), "cpu")
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return int(limit)
    known = memory_of_kind(device.device_kind)
    return None if known is None else run_bytes(known, "tpu" if device.platform == "tpu" else "gpu", allocator)


def effective(args: TrainArgs, policy: ComputePolicy, config: DecoderConfig, device: jax.Device) -> dict[str, str]:
    """What "auto" resolved to, for the report."""
    choice = attention_of(args, config, device)
    return {
        "remat": policy.remat,
        "attention": choice.attention,
        "attention_because": choice.because,
        "update": args.update,
        "matmul_dtype": dtype_of(matmul_rule(args.matmul_dtype, args.dtype, device), args.dtype),
    }


def local_bytes(leaf: jax.Array | jax.ShapeDtypeStruct) -> int:
    """Bytes of one device's shard of an array, or of a shape."""
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    size = int(leaf.dtype.itemsize)
    for length in shape:
        size *= length
    return size
