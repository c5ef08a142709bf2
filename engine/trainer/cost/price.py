"""What the train step costs on a machine, by the machine's own compiler: no weight is made, nothing runs.

In: a :class:`engine.protocol.jobs.PriceJob`. Out: one mapping; bytes are of one device. ``peak_bytes`` is null if the
program does not compile because it does not fit; ``needed_bytes`` then is what the compiler says it would take.

The same functions that train are lowered (with_method, init_state, compile_train_step, Placement, pack_rows), on shapes
alone.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.errors import JaxRuntimeError

from engine.model_config.decoder import DecoderConfig
from engine.protocol.device_memory import fits
from engine.protocol.jobs import PriceJob
from engine.protocol.train_args import TrainArgs, remat_policies
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.cost.buffers import at_peak
from engine.trainer.cost.machines import described_devices, machine_named
from engine.trainer.cost.modelled import modelled
from engine.trainer.distributed.placement import Placement
from engine.trainer.input_pipeline.packing import pack_rows
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.loss import ComputePolicy
from engine.trainer.models import config_from_hf, create, param_count
from engine.trainer.models.decoder import Decoder
from engine.trainer.ops.blocked_attention import BLOCK, KEY_BLOCKS, mean_key_blocks
from engine.trainer.ops.fused_attention import attention_of
from engine.trainer.remat_policy import compile_within_limit, compute_policy, effective, local_bytes, peak_bytes
from engine.trainer.train_step import State, init_state, with_method

LARGEST = 40  # buffers that a report names
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def abstract_state(config: DecoderConfig, args: TrainArgs, device: jax.Device) -> tuple[nnx.GraphDef[Decoder], State]:
    """(graphdef, state of shapes) of a model that is never made, for a device."""
    graphdefs: list[nnx.GraphDef[Decoder]] = []

    def build() -> State:
        dtype = jnp.dtype(args.dtype)
        model = create(config, seed=args.seed, param_dtype=dtype, compute_dtype=dtype)
        graphdef, state = init_state(with_method(model, args, device), args)
        graphdefs.append(graphdef)
        return state

    state: State = jax.eval_shape(build)
    return graphdefs[0], state


def abstract_batch(args: TrainArgs, fsdp: int, targets_per_row: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes that ``batch_at`` gives, [A, B, …], for full rows of which ``targets_per_row`` tokens are trained.

    ``fsdp``: the size of that axis.
    """
    targets = args.seq_len - 1 if targets_per_row is None else targets_per_row
    mask = (0,) * (args.seq_len - targets) + (1,) * targets
    row = TokenRow("0", (0,) * args.seq_len, mask)
    sequence = pack_rows([row], args.seq_len, packing=args.packing).take([0])
    _, *lead = batch_of(args, fsdp)
    return {name: jax.ShapeDtypeStruct((*lead, *array.shape[1:]), array.dtype) for name, array in sequence.items()}


def compile_abstract(
    config: DecoderConfig,
    args: TrainArgs,
    devices: list[jax.Device],
    targets_per_row: int | None = None,
    *,
    limit: int | None = None,
) -> tuple[jax.stages.Compiled, State, ComputePolicy]:
    """(compiled train step, the shapes of its state, its compute policy) for these devices, attached or described."""
    placement = Placement(devices, args.mesh)
    graphdef, state = abstract_state(config, args, devices[0])
    state = placement.state(state, config)
    batch = placement.batch(abstract_batch(args, placement.size.fsdp, targets_per_row), axis=1)
    compiled, policy = compile_within_limit(graphdef, args, state, batch, placement, limit=limit)
    return compiled, state, policy


def price_step(job: PriceJob) -> dict[str, Any]:
    """Compile for the job's machine and report. Raises InputInvalid (T115, T150, M codes)."""
    machine, args = machine_named(job.machine), job.args
    config = config_from_hf(job.config, "the job's config")
    devices = described_devices(machine.name)
    args, instead = without_cudnn(args, config, devices[0])
    report: dict[str, Any] = {
        "machine": machine.name,
        "source": f"{machine.platform}-compiler",
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "params": param_count(config),
        "limit_bytes": job.limit_bytes,
    }
    started = time.perf_counter()
    try:
        compiled, state, policy = compile_abstract(config, args, devices, job.targets_per_row, limit=job.limit_bytes)
    except JaxRuntimeError as error:
        needed = needed_bytes(str(error))
        if needed is None:
            raise
        seconds = time.perf_counter() - started
        last = remat_policies(args.remat, args.update, machine.platform)[-1]
        how = effective(args, compute_policy(args, Placement(devices, args.mesh), last), config, devices[0]) | instead
        return {**report, **_does_not_fit(needed, str(error)), "how": how, "compile_seconds": round(seconds, 2)}
    report["compile_seconds"] = round(time.perf_counter() - started, 2)
    report |= memory_report(compiled, machine.platform) | {"state_bytes": state_bytes(state)}
    report["work"] = modelled(compiled, machine.kind, *_visible(config, args)).report()
    report["flops"] = report["work"]["flops"]
    report["how"] = effective(args, policy, config, devices[0]) | instead
    report["needed_bytes"] = report["peak_bytes"]
    limit = job.limit_bytes
    report["fits"] = None if limit is None else fits(report["peak_bytes"], limit)
    if job.dump:
        report["live_bytes"], buffers = at_peak(Path(job.dump))
        report["live"] = [asdict(buffer) for buffer in buffers[:LARGEST]]
    return report


def without_cudnn(args: TrainArgs, config: DecoderConfig, device: jax.Device) -> tuple[TrainArgs, dict[str, str]]:
    """The arguments to compile with, and what the report says of attention where they are not those of the job.

    JAX asks the cuDNN of an attached GPU for its version before it lowers a call to it: a described GPU has none.
    """
    if attention_of(args, config, device).attention != "cudnn":
        return args, {}
    because = "cuDNN's kernel cannot be compiled without the GPU: priced with attention in blocks, which holds no scores either"
    return replace(args, attention="blocked"), {"attention_because": because}


def _visible(config: DecoderConfig, args: TrainArgs) -> tuple[dict[str, float], float]:
    """In rows that are one sequence: how often attention's loops over key blocks run, and the share of tiles that a kernel computes."""
    blocks = mean_key_blocks(args.seq_len, config.layer_windows() or [None])
    return {KEY_BLOCKS: blocks}, blocks / -(-args.seq_len // BLOCK)


def memory_report(compiled: jax.stages.Compiled, platform: str) -> dict[str, float | None]:
    """The compiler's own figures: bytes of one device."""
    memory = compiled.memory_analysis()
    assert memory is not None  # the CPU, GPU and TPU compilers all have it
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "peak_bytes": peak_bytes(compiled, platform),
    }


def state_bytes(state: State) -> int:
    """Bytes of the state on one device, by arithmetic on its shards."""
    return sum(local_bytes(leaf) for leaf in jax.tree.leaves(state))


def _does_not_fit(needed: int, message: str) -> dict[str, object]:
    names = ("argument_bytes", "output_bytes", "alias_bytes", "temp_bytes", "code_bytes", "peak_bytes", "flops", "work")
    return {**dict.fromkeys(names), "needed_bytes": needed, "fits": False, "compiler_says": message}


def needed_bytes(message: str) -> int | None:
    """What a program that does not fit would take, from the TPU compiler's error; None for another message.

    >>> needed_bytes("RESOURCE_EXHAUSTED: ... Used 28.59G of 15.75G hbm. Exceeded hbm capacity by 12.84G.")
    30698278748
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT]?)\)? (?:of|exceeds available HBM)", message)
    return int(float(match[1]) * UNITS[match[2]]) if match else None
