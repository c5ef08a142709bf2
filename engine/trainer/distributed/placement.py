"""What of a train state and of a batch lies on which device.

    place = Placement()                            # all devices on fsdp
    place = Placement(mesh=MeshArgs(4, 2))         # T164 where the devices are not eight
    place = Placement(found, MeshArgs(4, 2))       # of these devices, which may be mere descriptions
    state = place.state(state, config)             # leaves, or shapes, cut as engine.trainer.distributed.sharding says
    batch = place.batch(arrays, axis=1)            # sequences dealt out along fsdp

The compiler puts in the communication. With one device nothing is done. Over several processes an array that all of them
have is cut by each for its own devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from engine.protocol.train_args import MeshArgs
from engine.trainer.config.mesh import ALL_ON_FSDP, MeshSize, mesh_size
from engine.trainer.distributed.sharding import Cut, Layout

AXES = ("fsdp", "tp")


class Placement:
    """All devices there are, or those given, in a mesh; what lies where."""

    def __init__(self, devices: Sequence[Any] | None = None, mesh: MeshArgs = ALL_ON_FSDP) -> None:
        """Raises InputInvalid T164 where mesh and devices do not match."""
        self.devices = jax.device_count() if devices is None else len(devices)
        self.size: MeshSize = mesh_size(mesh, self.devices)
        self.platform: str = (jax.devices() if devices is None else devices)[0].platform
        self._mesh = None
        if self.devices > 1 or devices is not None:
            auto = (jax.sharding.AxisType.Auto,) * len(AXES)
            self._mesh = jax.make_mesh(self.size, AXES, axis_types=auto, devices=devices)

    @property
    def axes(self) -> dict[str, int]:
        """Axis of the mesh -> devices along it; empty where there is no mesh."""
        return {} if self._mesh is None else self.size._asdict()

    @property
    def whole(self) -> Any:
        """The sharding of what lies on every device; None with one device, where nothing is placed."""
        return None if self._mesh is None or self.devices == 1 else self._over(())

    def of_model(self, config: Any) -> Callable[[str, tuple[int, ...]], Any] | None:
        """(dotted name, shape) of a weight -> its Sharding; None for the one device there is."""
        if self._mesh is None:
            return None
        layout = Layout(config, self.size)
        return lambda name, shape: self._over(layout.cut(name, shape))

    def state(self, tree: Any, config: Any) -> Any:
        """Each leaf of a train state on its share of the devices."""
        if self._mesh is None:
            return tree
        layout = Layout(config, self.size)

        def put(path: Any, leaf: Any) -> Any:
            # flax's variables show up as a last attribute `value`
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            return _put(leaf, self._over(layout.cut_in_state(name, leaf.shape)))

        return jax.tree.map_with_path(put, tree)

    def batch(self, arrays: dict[str, Any], *, axis: int) -> dict[str, Any]:
        """Sequences (on ``axis``) dealt out along fsdp, and on their way there when this returns."""
        if self._mesh is None:
            return jax.device_put(arrays)  # type: ignore[no-any-return]
        sharding = self._over(((),) * axis + (("fsdp",),))
        return {name: _put(array, sharding) for name, array in arrays.items()}

    def dealt(self, rows: int, make: Callable[[slice], dict[str, Any]]) -> dict[str, Any]:
        """A batch [A, rows, …] of which each process makes only what its own devices take: ``make(columns)``."""
        if self._mesh is None or self._over(()).is_fully_addressable:
            return self.batch(make(slice(None)), axis=1)
        sharding = self._over(((), ("fsdp",)))
        indices = sharding.addressable_devices_indices_map((1, rows)).values()
        columns = {index[1].indices(rows)[:2] for index in indices if index is not None}
        parts = {(first, past): make(slice(first, past)) for first, past in sorted(columns)}

        def whole(name: str) -> Any:
            ((micro_batches, _, *rest), *_) = (part[name].shape for part in parts.values())

            def share(index: Any) -> Any:
                return parts[index[1].indices(rows)[:2]][name]

            return jax.make_array_from_callback((micro_batches, rows, *rest), sharding, share)

        return {name: whole(name) for name in next(iter(parts.values()))}

    def _over(self, cut: Cut) -> Any:
        assert self._mesh is not None
        axes = [None if not axes else axes[0] if len(axes) == 1 else axes for axes in cut]
        return jax.NamedSharding(self._mesh, jax.P(*axes))


def _put(leaf: Any, sharding: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
