"""Which axis of a weight lies on which axis of the mesh: one rule, by the words of the family's table.

In: a model's configuration and a mesh. Out: for every leaf of a train state how each of its axes is cut, and the same
as a table for people. Nothing is placed here (:class:`engine.trainer.device.Placement` does that).

    layout = Layout(config, MeshSize(fsdp=4, tp=2))
    layout.cut("layers.q", (18, 2048, 2048))        # ((), ("fsdp",), ("tp",)): L whole, D over 4, heads over 2

The rule, in this order (V vocabulary, D model, F ffn, L layers, H head dim, NH all query heads, KH all kv heads, R rank):

1. V is cut over all devices, fsdp and tp together, where they divide it: the head's loss goes over each device's rows.
2. tp cuts NH where it divides the number of heads, KH where it divides the number of kv heads, F where it divides it. A
   head is never cut in two. So a single kv head (Gemma 2B) is on every device of a tp group.
3. fsdp cuts the longest of the axes that are left and that it divides, the first of equals. L is never cut, since the
   walk takes one layer at a time, nor is R.
4. What cannot be cut is on every device.

Masters and AdamW's statistics lie as their weight does. Adafactor's row and column lie as the axes that they keep; one
that would not be cut by fsdp is, by rule 3. An adapter is cut as the axis that it shares with its weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.protocol.jobs import ShardingsJob
from engine.protocol.train_args import TrainArgs
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.config.mesh import MeshSize, mesh_size
from engine.trainer.lora.adapters import TARGETS, LoraArgs, adapter_shapes
from engine.trainer.models import config_from_hf, family_of
from engine.trainer.optim.rules import is_factored

Cut = tuple[tuple[str, ...], ...]  # for each axis of a leaf the axes of the mesh that cut it

WHOLE_WORDS = frozenset(["L", "R"])
STATE_PARTS = ("params.", "frozen.", "opt_state.master.")
STATISTICS = "opt_state.stats."


class Layout:
    """The rule for one model on one mesh."""

    def __init__(self, config: Any, size: MeshSize) -> None:
        self.config, self.size = config, size
        table = family_of(config).MODEL.TABLE
        self.words = {leaf.name: tuple(leaf.shape.split()) for leaf in table.leaves}
        for ours in TARGETS.values():
            depth, rows, columns = self.words[f"layers.{ours}"]
            self.words |= {f"lora.{ours}_a": (depth, rows, "R"), f"lora.{ours}_b": (depth, "R", columns)}
        # What tp counts by: it never cuts a head.
        self.units = {
            "NH": config.num_attention_heads,
            "KH": config.num_key_value_heads,
            "F": config.intermediate_size,
        }

    def cut(self, name: str, shape: tuple[int, ...]) -> Cut:
        """Of a weight or an adapter by its dotted name ("layers.q", "lora.q_a"). Raises KeyError for another name."""
        return self._by_words(self.words[name], shape)

    def cut_in_state(self, name: str, shape: tuple[int, ...]) -> Cut:
        """Of a leaf of the train state by its dotted path; counters are everywhere."""
        if name.startswith(STATISTICS):
            owner, kind = name.removeprefix(STATISTICS).rsplit(".", 1)
            return self._of_statistic(owner, kind, shape)
        for part in STATE_PARTS:
            if name.startswith(part):
                return self.cut(name.removeprefix(part), shape)
        return ((),) * len(shape)

    def _of_statistic(self, owner: str, kind: str, shape: tuple[int, ...]) -> Cut:
        words = self.words[owner]
        if kind not in ("row", "col"):
            return self.cut(owner, shape)
        kept = words[:-1] if kind == "row" else (*words[:-2], words[-1])
        return self._by_words(kept, shape)

    def _by_words(self, words: tuple[str, ...], shape: tuple[int, ...]) -> Cut:
        fsdp, tp = self.size
        found: list[tuple[str, ...]] = [()] * len(shape)
        if "V" in words and shape[words.index("V")] % self.size.devices == 0:
            found[words.index("V")] = ("fsdp", "tp")
            return tuple(found)
        if tp > 1:
            able = [axis for axis, word in enumerate(words) if word in self.units and self.units[word] % tp == 0]
            for axis in able[:1]:
                found[axis] = ("tp",)
        if fsdp > 1:
            able = [
                axis
                for axis, (word, length) in enumerate(zip(words, shape, strict=True))
                if not found[axis] and word not in WHOLE_WORDS and length % fsdp == 0
            ]
            if able:
                found[max(able, key=lambda axis: (shape[axis], -axis))] = ("fsdp",)
        return tuple(found)

    def share(self, cut: Cut, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what one device has of it."""
        sizes = self.size._asdict()
        return tuple(length // math.prod(sizes[axis] for axis in axes) for length, axes in zip(shape, cut, strict=True))


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


def report_shardings(job: ShardingsJob) -> dict[str, Any]:
    """The trainer's verb ``shardings``: -> {mesh, batch, rows}, without a device.

    Raises InputInvalid T115, T164 (mesh and devices), T165, T166 (the batch), M codes.
    """
    config, args = config_from_hf(job.config, "the job's config"), job.args
    size = mesh_size(args.mesh, job.devices)
    batch = batch_of(args, size.fsdp)
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
