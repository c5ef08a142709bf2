"""What one device holds of each weight: the rule of engine.trainer.distributed.sharding, on a model's shapes alone.

In: a configuration with Hugging Face's keys, and the mesh. Out: numbers on one device. tests/preflight compares them with
the trainer's own table, for every family and several meshes.

    >>> from engine.model_config.shapes import KNOWN_CONFIGS
    >>> sum(leaf.on_device for leaf in leaves(KNOWN_CONFIGS["google/gemma-2b"], Mesh(4, 2)))
    315640320
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from engine.model_config.shapes import NEEDED, norms

SMALLEST_FACTORED = (
    128  # Adafactor has a statistic for each number of a matrix with a smaller side (engine.trainer.optim.rules)
)
PROJECTIONS = {  # name of an adapter's target -> the axes of its matrix
    "q_proj": "D NH", "k_proj": "D KH", "v_proj": "D KH", "o_proj": "NH D",
    "gate_proj": "D F", "up_proj": "D F", "down_proj": "F D",
}  # fmt: skip


class Mesh(NamedTuple):
    """Devices along each axis."""

    fsdp: int = 1
    tp: int = 1

    @property
    def devices(self) -> int:
        """All of them."""
        return self.fsdp * self.tp


class Leaf(NamedTuple):
    """A weight of the model, all layers of it stacked. ``on_device``: numbers of it on one device; ``copies``: layers."""

    axes: str
    shape: tuple[int, ...]  # of one layer
    copies: int
    on_device: int

    @property
    def is_factored(self) -> bool:
        """Whether Adafactor keeps a row and a column of it."""
        return len(self.shape) >= 2 and min(self.shape[-2:]) >= SMALLEST_FACTORED


def mesh_of(args: Mapping[str, Any], devices: int) -> Mesh:
    """The mesh that the arguments of train_sft declare, over so many devices."""
    declared = args.get("mesh") or {}
    tp = int(declared.get("tp") or 1)
    return Mesh(int(declared.get("fsdp") or max(1, devices // tp)), tp)


def leaves(config: Mapping[str, Any], mesh: Mesh) -> list[Leaf]:
    """Every weight of the model: embedding, matrices, norms."""
    gains, depth = norms(config), int(config["num_hidden_layers"])
    layer = [*PROJECTIONS.values(), *["D"] * gains.width, *["H"] * gains.head]
    parts = [("V D", 1), *((axes, depth) for axes in layer), ("D", 1)]
    return [leaf_of(config, mesh, axes, copies) for axes, copies in parts]


def adapters(config: Mapping[str, Any], mesh: Mesh, rank: int, targets: list[str]) -> Iterator[Leaf]:
    """Both matrices of each adapter, all layers of it stacked."""
    depth = int(config["num_hidden_layers"])
    for target in targets:
        rows, columns = PROJECTIONS[target].split()
        for axes in (f"{rows} R", f"R {columns}"):
            yield leaf_of({**config, "rank": rank}, mesh, axes, depth)


def leaf_of(config: Mapping[str, Any], mesh: Mesh, axes: str, copies: int) -> Leaf:
    """One weight by the names of its axes ("D NH"), of so many layers."""
    names = axes.split()
    shape = tuple(_length(config, name) for name in names)
    shard = math.prod(_shard(config, mesh, names, shape))
    return Leaf(axes, shape, copies, shard * copies)


def _length(config: Mapping[str, Any], name: str) -> int:
    vocab, width, ffn, _, heads, kv_heads, head_dim = (int(config[key]) for key in NEEDED)
    lengths = {"V": vocab, "D": width, "F": ffn, "NH": heads * head_dim, "KH": kv_heads * head_dim, "H": head_dim}
    return lengths[name] if name in lengths else int(config["rank"])


def _shard(config: Mapping[str, Any], mesh: Mesh, names: list[str], shape: tuple[int, ...]) -> list[int]:
    """The shape of one device's shard."""
    units = {
        "NH": int(config["num_attention_heads"]),
        "KH": int(config["num_key_value_heads"]),
        "F": int(config["intermediate_size"]),
    }
    shard = list(shape)
    if names[0] == "V" and shape[0] % mesh.devices == 0:
        return [shape[0] // mesh.devices, *shape[1:]]
    taken = next((axis for axis, name in enumerate(names) if name in units and units[name] % mesh.tp == 0), None)
    if mesh.tp > 1 and taken is not None:
        shard[taken] //= mesh.tp
    free = [axis for axis in range(len(names)) if (mesh.tp == 1 or axis != taken) and names[axis] != "R"]
    free = [axis for axis in free if shape[axis] % mesh.fsdp == 0]
    if free:
        shard[next((axis for axis in free if names[axis] == "F"), free[0])] //= mesh.fsdp
    return shard
