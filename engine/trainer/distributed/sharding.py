"""Which axis of a weight is sharded over which axis of the mesh: one rule, by the axis names of the family's table.

In: a model's configuration and a mesh. Out: for every leaf of a train state how each of its axes is sharded. Nothing is
placed here (:mod:`engine.trainer.distributed.placement` does that); :mod:`engine.trainer.cost.shardings` makes a table of
it for people.

    layout = Layout(config, MeshSize(fsdp=4, tp=2))
    layout.partition("layers.q", (18, 2048, 2048))   # ((), ("fsdp",), ("tp",)): L not sharded, D over 4, heads over 2

The rule, in this order (V vocabulary, D model, F ffn, L layers, H head dim, NH all query heads, KH all kv heads, R rank):

1. V is sharded over all devices, fsdp and tp together, if they divide it: the head's loss goes over each device's rows.
2. tp shards NH if it divides the number of heads, KH if it divides the number of kv heads, F if it divides that. A head
   is never split. So a single kv head (Gemma 2B) is replicated within a tp group.
3. fsdp shards F if it divides it, else the first of the remaining axes that it divides. L is never sharded, since the walk
   takes one layer at a time, nor is R. (The MLP's matmuls go over each device's columns of F, and its matrices, the
   largest, are never gathered. Attention's matrices are gathered, and XLA's GPU compiler lays a gathered axis outermost:
   were it their last, the stack of all layers would be turned and kept twice.)
4. What cannot be sharded is replicated.

Masters and AdamW's statistics are sharded as their weight. Adafactor's row and column are sharded as the axes that they
keep; one that fsdp would then not shard is sharded by rule 3. An adapter is sharded as the axis it shares with its weight.
"""

from __future__ import annotations

import math

from engine.model_config.decoder import DecoderConfig
from engine.trainer.config.mesh import MeshSize
from engine.trainer.lora.adapters import TARGETS
from engine.trainer.models import family_of

Partition = tuple[tuple[str, ...], ...]  # for each axis of a leaf the axes of the mesh that shard it

NEVER_SHARDED = frozenset(["L", "R"])
STATE_PARTS = ("params.", "frozen.", "opt_state.master.")
STATISTICS = "opt_state.stats."


class Layout:
    """The rule for one model on one mesh."""

    def __init__(self, config: DecoderConfig, size: MeshSize) -> None:
        self.config, self.size = config, size
        table = family_of(config).MODEL.TABLE
        self.axis_names = {leaf.name: tuple(leaf.shape.split()) for leaf in table.leaves}
        for target in TARGETS.values():
            depth, rows, columns = self.axis_names[f"layers.{target}"]
            self.axis_names |= {f"lora.{target}_a": (depth, rows, "R"), f"lora.{target}_b": (depth, "R", columns)}
        # What tp counts by: it never splits a head.
        self.units = {
            "NH": config.num_attention_heads,
            "KH": config.num_key_value_heads,
            "F": config.intermediate_size,
        }

    def partition(self, name: str, shape: tuple[int, ...]) -> Partition:
        """Of a weight or an adapter by its dotted name ("layers.q", "lora.q_a"). Raises KeyError for another name."""
        return self._by_axis_names(self.axis_names[name], shape)

    def state_partition(self, name: str, shape: tuple[int, ...]) -> Partition:
        """Of a leaf of the train state by its dotted path; counters are replicated."""
        if name.startswith(STATISTICS):
            owner, kind = name.removeprefix(STATISTICS).rsplit(".", 1)
            return self._statistic_partition(owner, kind, shape)
        for part in STATE_PARTS:
            if name.startswith(part):
                return self.partition(name.removeprefix(part), shape)
        return ((),) * len(shape)

    def _statistic_partition(self, owner: str, kind: str, shape: tuple[int, ...]) -> Partition:
        names = self.axis_names[owner]
        if kind not in ("row", "col"):
            return self.partition(owner, shape)
        remaining = names[:-1] if kind == "row" else (*names[:-2], names[-1])
        return self._by_axis_names(remaining, shape)

    def _by_axis_names(self, names: tuple[str, ...], shape: tuple[int, ...]) -> Partition:
        fsdp, tp = self.size
        partition: list[tuple[str, ...]] = [()] * len(shape)
        if "V" in names and shape[names.index("V")] % self.size.devices == 0:
            partition[names.index("V")] = ("fsdp", "tp")
            return tuple(partition)
        if tp > 1:
            candidates = [axis for axis, name in enumerate(names) if name in self.units and self.units[name] % tp == 0]
            for axis in candidates[:1]:
                partition[axis] = ("tp",)
        if fsdp > 1:
            candidates = [
                axis
                for axis, (name, length) in enumerate(zip(names, shape, strict=True))
                if not partition[axis] and name not in NEVER_SHARDED and length % fsdp == 0
            ]
            if candidates:
                partition[next((axis for axis in candidates if names[axis] == "F"), candidates[0])] = ("fsdp",)
        return tuple(partition)

    def shard_shape(self, partition: Partition, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one device's shard."""
        sizes = self.size._asdict()
        return tuple(
            length // math.prod(sizes[axis] for axis in axes) for length, axes in zip(shape, partition, strict=True)
        )
