"""How the weights of a model would be sharded over a mesh, as a table for people; no device is needed.

In: the job of the verb ``shardings``: {config (Hugging Face's keys), args (engine.trainer.config.train_args), devices}.
Out: {mesh, batch, rows}; a row is a :class:`ShardingRow`, one for each weight and adapter.

    report = report_shardings({"config": config, "args": args, "devices": 8})
    report["rows"][1]["words"]      # "L D/4 NH/2"
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from engine.trainer.config.mesh import MeshSize, mesh_size
from engine.trainer.config.train_args import TrainArgs
from engine.trainer.distributed.sharding import STATISTICS, Layout
from engine.trainer.lora.adapters import LoraArgs, adapter_shapes
from engine.trainer.models import config_from_hf, family_of
from engine.trainer.optim.rules import is_factored


class ShardingRow(NamedTuple):
    """One line of the table; bytes are one device's, of the weight and of what the optimizer keeps for it."""

    leaf: str
    shape: tuple[int, ...]
    words: str  # "L D/4 NH/2": each axis by its word, and into how many parts it is cut
    fsdp: str | None  # the word that fsdp cuts
    tp: str | None
    bytes_per_device: int
    optimizer_bytes_per_device: int
    note: str


def report_shardings(job: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's verb ``shardings``: job {config, args, devices} -> {mesh, batch, rows}, without a device.

    Raises InputInvalid T115, T164 (mesh and devices), T165, T166 (the batch), M codes.
    """
    config, args = config_from_hf(job["config"], "the job's config"), TrainArgs.of(job["args"])
    size = mesh_size(args.mesh, int(job["devices"]))
    batch = args.batch(size.fsdp)
    rows = [row._asdict() for row in sharding_table(config, args, size)]
    return {"mesh": size._asdict(), "batch": {**batch._asdict(), "empty": batch.empty}, "rows": rows}


def sharding_table(config: Any, args: TrainArgs, size: MeshSize) -> list[ShardingRow]:
    """Every weight, and the adapters where they are what is trained, in the order of the family's table."""
    layout, wide = Layout(config, size), {"float32": 4, "bfloat16": 2}[args.dtype]
    rows = []
    for name, shape in family_of(config).weight_shapes(config).items():
        rows.append(_row(layout, args, name, shape, wide, trained=args.method == "full"))
    if args.method == "lora":
        lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets)
        for name, shape in adapter_shapes(config, lora).items():
            rows.append(_row(layout, args, f"lora.{name.replace('.', '_')}", shape, 4, trained=True))
    return rows


def _row(
    layout: Layout, args: TrainArgs, name: str, shape: tuple[int, ...], wide: int, *, trained: bool
) -> ShardingRow:
    cut, words = layout.cut(name, shape), layout.words[name]
    sizes = layout.size._asdict()
    said = []
    for word, axes in zip(words, cut, strict=True):
        parts = math.prod(sizes[axis] for axis in axes)
        said.append(word if parts == 1 else f"{word}/{parts}")
    holders = {axis: word for word, axes in zip(words, cut, strict=True) for axis in axes if sizes[axis] > 1}
    return ShardingRow(
        leaf=name,
        shape=shape,
        words=" ".join(said),
        fsdp=holders.get("fsdp"),
        tp=holders.get("tp"),
        bytes_per_device=math.prod(layout.share(cut, shape)) * wide,
        optimizer_bytes_per_device=sum(_statistics(layout, args, name, shape, wide)) if trained else 0,
        note="; ".join(_notes(layout, words, holders)),
    )


def _statistics(layout: Layout, args: TrainArgs, name: str, shape: tuple[int, ...], wide: int) -> Iterator[int]:
    """float32 bytes of one device of each statistic, and of the master."""

    def held(kind: str, shape: tuple[int, ...]) -> int:
        return 4 * math.prod(layout.share(layout.cut_in_state(f"{STATISTICS}{name}.{kind}", shape), shape))

    is_stacked = layout.words[name][0] == "L"
    if args.optimizer == "adamw":
        yield from (held("mu", shape), held("nu", shape))
    elif is_factored(shape[1:] if is_stacked else shape):
        yield from (held("row", shape[:-1]), held("col", (*shape[:-2], shape[-1])))
    else:
        yield held("nu", shape)
    if args.master_weights and wide != 4:
        yield held("mu", shape)  # a master has its weight's shape, as AdamW's mean has


def _notes(layout: Layout, words: tuple[str, ...], holders: dict[str, str]) -> Iterator[str]:
    """Why a leaf is not cut where one would expect it."""
    things = {"NH": "query head", "KH": "kv head", "F": "column"}
    for word in words:
        if layout.size.tp > 1 and word in layout.units and "tp" not in holders:
            count = layout.units[word]
            yield f"{count} {things[word]}{'s' * (count != 1)}: whole on every device of a tp group"
    if layout.size.fsdp > 1 and "fsdp" not in holders:
        yield "no axis that fsdp could cut: whole on each of its places"
