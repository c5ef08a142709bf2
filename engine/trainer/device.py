"""Which devices a job runs on: chosen before JAX starts, checked after; how a state is spread over several.

    select("cpu")             # before the first import of jax
    describe("cpu")           # after: platform, devices, device_kind; raises T101 where it is not there
    place = Placement()       # after: all devices in one row; place.state(tree), place.batch(arrays, axis=1)
    place = Placement(found)  # of these devices, which may be mere descriptions; shapes are placed like arrays

With several devices every weight and statistic is cut along its largest axis that divides evenly, and the sequences
of a batch are dealt out; the compiler puts in the communication (FSDP). With one device nothing is done.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from engine.errors import InputInvalid

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
# Without it a GPU adds up gradients in an order of its own at every run, and no resume is exact.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
# https://docs.jax.dev/en/latest/gpu_memory_allocation.html
ALLOCATOR = {
    "kind": "XLA_PYTHON_CLIENT_ALLOCATOR",
    "preallocate": "XLA_PYTHON_CLIENT_PREALLOCATE",
    "fraction": "XLA_CLIENT_MEM_FRACTION",
}
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def select(device: str, allocator: Mapping[str, Any] | None = None) -> None:
    """Tell JAX, before it is imported. ``auto`` leaves the choice to JAX (and to JAX_PLATFORMS).

    ``allocator``: {kind, preallocate, fraction} of a GPU's memory; None leaves that to JAX (and to its variables).
    """
    if allocator is not None:
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # the older name beside the newer is an error
        os.environ |= {variable: str(allocator[key]).lower() for key, variable in ALLOCATOR.items()}
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # gpu and tpu are not forced: JAX must be able to say what else is there (see describe).
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's notes are no news
    flags = os.environ.get("XLA_FLAGS", "")
    has_cuda = any(importlib.util.find_spec(name) for name in CUDA_PLUGINS)
    if device != "cpu" and has_cuda and "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()


def describe(device: str) -> dict[str, Any]:
    """platform, devices, device_kind, libraries. Raises InputInvalid T101 for a device that is not there."""
    import platform

    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:  # JAX_PLATFORMS names what is not here
        raise InputInvalid(
            "T101",
            f"JAX finds no device: {str(error).splitlines()[0]}",
            hint=f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', 'not set')}",
        ) from error
    found = devices[0].platform
    kind = {"cuda": "gpu", "rocm": "gpu"}.get(found, found)
    if device not in ("auto", kind):
        there = ", ".join(f"{entry.platform}:{entry.device_kind}" for entry in devices)
        raise InputInvalid(
            "T101",
            f"the run-spec asks for device: {device}, and there is none here",
            hint=f"here is: {there}\nwrite device: {kind} (or auto), or run on a machine with a {device}",
        )
    return {
        "platform": kind,
        "devices": [str(entry) for entry in devices],
        "device_kind": devices[0].device_kind,
        "allocator": _allocator() if kind == "gpu" else None,
        "libraries": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
    }


def _allocator() -> dict[str, str | None]:
    """What JAX was told about a GPU's memory; None: its own default."""
    return {key: os.environ.get(variable) for key, variable in ALLOCATOR.items()}


class Placement:
    """All local devices in one row, or those given; what lies where."""

    def __init__(self, devices: Sequence[Any] | None = None) -> None:
        import jax

        self._jax = jax
        self.devices = jax.device_count() if devices is None else len(devices)
        self._mesh = None
        self.platform: str = (jax.devices() if devices is None else devices)[0].platform
        if self.devices > 1 or devices is not None:
            auto = (jax.sharding.AxisType.Auto,)
            self._mesh = jax.make_mesh((self.devices,), ("data",), axis_types=auto, devices=devices)

    @property
    def axes(self) -> dict[str, int]:
        """Axis of the mesh -> devices along it; empty where there is no mesh."""
        return {} if self._mesh is None else {str(axis): int(size) for axis, size in self._mesh.shape.items()}

    @property
    def whole(self) -> Any:
        """The sharding of what lies on every device; None with one device, where nothing is placed."""
        return None if self._mesh is None or self.devices == 1 else self._jax.NamedSharding(self._mesh, self._jax.P())

    def sharding(self, shape: tuple[int, ...]) -> Any:
        """Where a leaf of this shape lies: a Sharding, or None for the one device there is."""
        return None if self._mesh is None else self._over(largest_divisible(shape, self.devices))

    def state(self, tree: Any) -> Any:
        """Each leaf cut along its largest axis that divides evenly; one without such an axis is everywhere."""
        if self._mesh is None:
            return tree
        return self._jax.tree.map(lambda leaf: self._put(leaf, largest_divisible(leaf.shape, self.devices)), tree)

    def batch(self, arrays: dict[str, Any], *, axis: int) -> dict[str, Any]:
        """Sequences (on ``axis``) dealt out to the devices, and on their way there when this returns."""
        if self._mesh is None:
            return self._jax.device_put(arrays)  # type: ignore[no-any-return]
        return {name: self._put(array, axis) for name, array in arrays.items()}

    def _put(self, leaf: Any, axis: int | None) -> Any:
        sharding = self._over(axis)
        if isinstance(leaf, self._jax.ShapeDtypeStruct):
            return self._jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return self._jax.device_put(leaf, sharding)

    def _over(self, axis: int | None) -> Any:
        """Cut along this axis; None: a copy on every device."""
        assert self._mesh is not None
        spec = self._jax.P() if axis is None else self._jax.P(*[None] * axis, "data")
        return self._jax.NamedSharding(self._mesh, spec)


def largest_divisible(shape: tuple[int, ...], parts: int) -> int | None:
    """The axis to cut: the largest that ``parts`` divides, the first of equals.

    >>> largest_divisible((18, 2048, 256), 8), largest_divisible((7,), 8), largest_divisible((), 8)
    (1, None, None)
    """
    axes = [axis for axis, size in enumerate(shape) if size >= parts and size % parts == 0]
    return max(axes, key=lambda axis: (shape[axis], -axis)) if axes else None
