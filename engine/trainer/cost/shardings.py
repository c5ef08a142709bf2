"""How the weights of a model would be sharded over a mesh, as a table for people; no device is needed.

In: a :class:`engine.protocol.jobs.ShardingsJob`. Out: {mesh, batch, rows}; a row is a :class:`ShardingRow`, one for each weight and adapter.

    report = report_shardings(ShardingsJob(config, args, devices=8))
    report["rows"][1]["words"]      # "L D/4 NH/2"
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.model_config.decoder import DecoderConfig
from engine.protocol.jobs import ShardingsJob
from engine.protocol.train_args import TrainArgs
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.config.mesh import MeshSize, mesh_size
from engine.trainer.distributed.sharding import STATISTICS, Layout
from engine.trainer.lora.adapters import LoraArgs, adapter_shapes
from engine.trainer.models import config_from_hf, family_of
from engine.trainer.optim.rules import is_factored


class ShardingRow(NamedTuple):
    """One line of the table; bytes are those on one device, of the weight and of its optimizer state."""

    leaf: str
    shape: tuple[int, ...]
    words: str  # "L D/4 NH/2": each axis by its name, and into how many shards it is split
    fsdp: str | None  # the axis that fsdp shards
    tp: str | None
    bytes_per_device: int
    optimizer_bytes_per_device: int
    note: str


def report_shardings(job: ShardingsJob) -> dict[str, Any]:
    """The trainer's verb ``shardings``: {mesh, batch, rows}, without a device.

    Raises InputInvalid T115, T164 (mesh and devices), T165, T166 (the batch), M codes.
    """
    config, args = config_from_hf(job.config, "the job's config"), job.args
    size = mesh_size(args.mesh, job.devices)
    batch = batch_of(args, size.fsdp)
    rows = [row._asdict() for row in sharding_table(config, args, size)]
    return {"mesh": size._asdict(), "batch": {**batch._asdict(), "empty": batch.empty}, "rows": rows}


def sharding_table(config: DecoderConfig, args: TrainArgs, size: MeshSize) -> list[ShardingRow]:
    """Every weight, and the adapters if they are trained, in the order of the family's table."""
    layout, itemsize = Layout(config, size), {"float32": 4, "bfloat16": 2}[args.dtype]
    rows = []
    for name, shape in family_of(config).weight_shapes(config).items():
        rows.append(_row(layout, args, name, shape, itemsize, trained=args.method == "full"))
    if args.method == "lora":
        lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets)
        for name, shape in adapter_shapes(config, lora).items():
            rows.append(_row(layout, args, f"lora.{name.replace('.', '_')}", shape, 4, trained=True))
    return rows


def _row(
    layout: Layout, args: TrainArgs, name: str, shape: tuple[int, ...], itemsize: int, *, trained: bool
) -> ShardingRow:
    partition, names = layout.partition(name, shape), layout.axis_names[name]
    sizes = layout.size._asdict()
    words = []
    for axis_name, axes in zip(names, partition, strict=True):
        parts = math.prod(sizes[axis] for axis in axes)
        words.append(axis_name if parts == 1 else f"{axis_name}/{parts}")
    sharded = {axis: name for name, axes in zip(names, partition, strict=True) for axis in axes if sizes[axis] > 1}
    return ShardingRow(
        leaf=name,
        shape=shape,
        words=" ".join(words),
        fsdp=sharded.get("fsdp"),
        tp=sharded.get("tp"),
        bytes_per_device=math.prod(layout.shard_shape(partition, shape)) * itemsize,
        optimizer_bytes_per_device=sum(_statistics(layout, args, name, shape, itemsize)) if trained else 0,
        note="; ".join(_notes(layout, names, sharded)),
    )


def _statistics(layout: Layout, args: TrainArgs, name: str, shape: tuple[int, ...], itemsize: int) -> Iterator[int]:
    """float32 bytes on one device of each statistic, and of the master."""

    def size(kind: str, shape: tuple[int, ...]) -> int:
        partition = layout.state_partition(f"{STATISTICS}{name}.{kind}", shape)
        return 4 * math.prod(layout.shard_shape(partition, shape))

    is_stacked = layout.axis_names[name][0] == "L"
    if args.optimizer == "adamw":
        yield from (size("mu", shape), size("nu", shape))
    elif is_factored(shape[1:] if is_stacked else shape):
        yield from (size("row", shape[:-1]), size("col", (*shape[:-2], shape[-1])))
    else:
        yield size("nu", shape)
    if args.master_weights and itemsize != 4:
        yield size("mu", shape)  # a master has its weight's shape, as AdamW's mean has


def _notes(layout: Layout, names: tuple[str, ...], sharded: dict[str, str]) -> Iterator[str]:
    """Why a leaf is not sharded where one would expect it."""
    units = {"NH": "query head", "KH": "kv head", "F": "column"}
    for name in names:
        if layout.size.tp > 1 and name in layout.units and "tp" not in sharded:
            count = layout.units[name]
            yield f"{count} {units[name]}{'s' * (count != 1)}: replicated within a tp group"
    if layout.size.fsdp > 1 and "fsdp" not in sharded:
        yield "no axis that fsdp divides: replicated along fsdp"
