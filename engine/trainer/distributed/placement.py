"""Puts train states and batches on the devices.

    placement = Placement()                            # all devices on fsdp
    placement = Placement(mesh=MeshArgs(4, 2))         # T164 unless there are eight devices
    placement = Placement(devices, MeshArgs(4, 2))     # of these devices, which may be mere descriptions
    state = placement.state(state, config)             # leaves, or shapes, as engine.trainer.distributed.sharding says
    batch = placement.batch(arrays, axis=1)            # sequences sharded along fsdp

The compiler inserts the communication. With one device nothing is placed. Where several processes all hold an array,
each takes its own devices' shards from its copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from engine.model_config.decoder import DecoderConfig
from engine.protocol.train_args import MeshArgs
from engine.trainer.config.mesh import ALL_ON_FSDP, MeshSize, mesh_size
from engine.trainer.distributed.sharding import Layout, Partition

AXES = ("fsdp", "tp")
Leaf = jax.Array | np.ndarray | jax.ShapeDtypeStruct
PyTree = Any  # arrays, or their shapes, in nested containers
Arrays = dict[str, Any]  # numpy or JAX arrays, or their shapes


class Placement:
    """All devices there are, or the given ones, in a mesh; and the sharding of what is placed on it."""

    def __init__(self, devices: Sequence[jax.Device] | None = None, mesh: MeshArgs = ALL_ON_FSDP) -> None:
        """Raises InputInvalid T164 where mesh and devices do not match."""
        self.devices = jax.device_count() if devices is None else len(devices)
        self.size: MeshSize = mesh_size(mesh, self.devices)
        self.platform: str = (jax.devices() if devices is None else devices)[0].platform
        self._mesh: jax.sharding.Mesh | None = None
        if self.devices > 1 or devices is not None:
            auto = (jax.sharding.AxisType.Auto,) * len(AXES)
            self._mesh = jax.make_mesh(self.size, AXES, axis_types=auto, devices=devices)

    @property
    def axes(self) -> dict[str, int]:
        """Axis of the mesh -> devices along it; empty where there is no mesh."""
        return {} if self._mesh is None else self.size._asdict()

    @property
    def replicated(self) -> jax.NamedSharding | None:
        """The sharding of what is replicated on every device; None with one device, where nothing is placed."""
        return None if self._mesh is None or self.devices == 1 else self._sharding(())

    def weight_shardings(self, config: DecoderConfig) -> Callable[[str, tuple[int, ...]], jax.NamedSharding] | None:
        """(dotted name, shape) of a weight -> its sharding; None with one device."""
        if self._mesh is None:
            return None
        layout = Layout(config, self.size)
        return lambda name, shape: self._sharding(layout.partition(name, shape))

    def state(self, tree: PyTree, config: DecoderConfig) -> PyTree:
        """The train state with each leaf sharded."""
        if self._mesh is None:
            return tree
        layout = Layout(config, self.size)

        def put(path: tuple[object, ...], leaf: Leaf) -> Leaf:
            # flax's variables show up as a last attribute `value`
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            return _put(leaf, self._sharding(layout.state_partition(name, leaf.shape)))

        return jax.tree.map_with_path(put, tree)

    def batch(self, arrays: Mapping[str, Leaf], *, axis: int) -> Arrays:
        """Sequences (on ``axis``) sharded along fsdp; their transfer has begun when this returns."""
        if self._mesh is None:
            return jax.device_put(arrays)  # type: ignore[no-any-return]
        sharding = self._sharding(((),) * axis + (("fsdp",),))
        return {name: _put(array, sharding) for name, array in arrays.items()}

    def sharded_batch(self, rows: int, make: Callable[[slice], Arrays]) -> Arrays:
        """A sharded batch [A, rows, …] of which each process makes only its own devices' columns: ``make(columns)``."""
        if self._mesh is None or self._sharding(()).is_fully_addressable:
            return self.batch(make(slice(None)), axis=1)
        sharding = self._sharding(((), ("fsdp",)))
        indices = sharding.addressable_devices_indices_map((1, rows)).values()
        columns = {index[1].indices(rows)[:2] for index in indices if index is not None}
        parts = {(first, past): make(slice(first, past)) for first, past in sorted(columns)}

        def assemble(name: str) -> jax.Array:
            ((micro_batches, _, *rest), *_) = (part[name].shape for part in parts.values())

            def shard(index: Any) -> Any:
                return parts[index[1].indices(rows)[:2]][name]

            return jax.make_array_from_callback((micro_batches, rows, *rest), sharding, shard)

        return {name: assemble(name) for name in next(iter(parts.values()))}

    def _sharding(self, partition: Partition) -> jax.NamedSharding:
        assert self._mesh is not None
        axes = [None if not axes else axes[0] if len(axes) == 1 else axes for axes in partition]
        return jax.NamedSharding(self._mesh, jax.P(*axes))


def _put(leaf: Leaf, sharding: jax.NamedSharding) -> Leaf:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        placed: jax.Array = jax.device_put(leaf, sharding)
        return placed
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
