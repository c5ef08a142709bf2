"""The train step compiled so that it fits: ``remat: auto`` takes the first policy whose program the device can hold.

What goes in: what :func:`~engine.trainer.train_step.compile_train_step` takes, and the bytes one device has. What comes
out: the compiled step and how it computes (:class:`~engine.trainer.loss.ComputePolicy`), for the report.

    step, how = compile_within_limit(graphdef, args, state, batch, placement, limit=limit_bytes(platform))

From the quickest to the smallest: none, dots, block, offload. A policy that cannot fit by arithmetic (what it keeps of
every layer is more than there is) is passed over without asking the compiler, which takes tens of seconds for a large
model. The choice is a pure function of the job, the device and the libraries: all three are in a checkpoint's identity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
from jax.errors import JaxRuntimeError

from engine.protocol.train_args import TrainArgs
from engine.trainer.distributed.placement import Placement
from engine.trainer.loss import ComputePolicy
from engine.trainer.models.remat import REMAT
from engine.trainer.ops.matmul import resolve_matmul_dtype
from engine.trainer.train_step import State, compile_train_step

ROOM = 0.96  # of the device's memory: the rest is the runtime's own and gaps between buffers


def compute_policy(args: TrainArgs, placement: Placement, remat: str = "none") -> ComputePolicy:
    """How this job computes on these devices, with a policy."""
    return ComputePolicy(remat=remat, blocked=args.blocked, shards=placement.devices, whole=placement.whole)


def compile_within_limit(
    graphdef: Any, args: TrainArgs, state: State, batch: Any, placement: Placement, *, limit: int | None
) -> tuple[Any, ComputePolicy]:
    """The declared policy, or with ``auto`` the first that fits ``limit`` bytes a device (None: unknown, the first).

    Raises JaxRuntimeError where even the last does not compile.
    """
    policies = candidates(args, state, batch, placement, limit=limit)
    for policy in policies:
        how = compute_policy(args, placement, policy)
        try:
            step = compile_train_step(graphdef, args, state, batch, how)
        except JaxRuntimeError as error:  # the TPU's compiler refuses what does not fit
            if "RESOURCE_EXHAUSTED" not in str(error) or policy == policies[-1]:
                raise
            continue
        if limit is None or policy == policies[-1] or peak_bytes(step, placement.platform) <= ROOM * limit:
            return step, how
    raise AssertionError("the last policy returns or raises")


def candidates(
    args: TrainArgs, state: State, batch: Mapping[str, Any], placement: Placement, *, limit: int | None
) -> tuple[str, ...]:
    """The policies worth compiling, in order; at least the last one."""
    if args.update == "in_backward":
        return ("block",)  # whatever is declared, this is what it does
    if args.remat != "auto":
        return (args.remat,)
    # Host memory is no other memory where the device is the host.
    able = [policy for policy in REMAT if policy != "offload" or placement.platform != "cpu"]
    if limit is None:
        return tuple(able)
    there = sum(local_bytes(leaf) for leaf in jax.tree.leaves(state))
    return tuple(p for p in able if there + kept_bytes(p, state, batch, placement) <= limit) or (able[-1],)


def kept_bytes(policy: str, state: State, batch: Mapping[str, Any], placement: Placement) -> int:
    """A lower bound of what a policy keeps of all layers for the backward pass, bytes a device."""
    leaves = {
        jax.tree_util.keystr(path): leaf
        for part in ("params", "frozen")
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.get(part, {}))
    }
    gate = next(leaf for name, leaf in leaves.items() if "gate" in name and "lora" not in name)
    depth, width, ffn = gate.shape
    tokens = batch["tokens"].shape[1] * batch["tokens"].shape[2] // placement.size.fsdp
    inputs = depth * tokens * width * gate.dtype.itemsize
    if policy == "offload":
        return 0
    if policy == "block":
        return int(inputs)
    products = 2 * depth * tokens * ffn * gate.dtype.itemsize // placement.size.tp  # gate's and up's
    return int(inputs + products)


def peak_bytes(compiled: Any, platform: str) -> int:
    """The compiler's own figure for one device.

    The CPU compiler's peak leaves the temporaries out; they lie beside what goes in and comes out.
    """
    found = compiled.memory_analysis()
    if platform != "cpu":
        return int(found.peak_memory_in_bytes)
    there = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(there + found.temp_size_in_bytes)


def limit_bytes(device: Any) -> int | None:
    """What a program may use of an attached device; the machine's memory where the device is the CPU."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // max(1, jax.local_device_count())
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit)


def effective(args: TrainArgs, how: ComputePolicy, where: Any) -> dict[str, Any]:
    """What "auto" became, for the report: declared = effective, or it is said."""
    return {
        "remat": how.remat,
        "attention": "blocked" if how.blocked else "plain",
        "update": args.update,
        "matmul_dtype": resolve_matmul_dtype(args.matmul_dtype, args.dtype, where) or args.dtype,
    }


def local_bytes(leaf: Any) -> int:
    """Bytes of an array's (or a shape's) share on one device."""
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    size = int(leaf.dtype.itemsize)
    for length in shape:
        size *= length
    return size
