"""Which devices a job runs on: chosen before JAX starts, checked after.

select("cpu")             # before the first import of jax
describe("cpu")           # after it: platform, devices, device_kind; raises T101 where JAX has no such device
"""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

from engine.errors import InputInvalid
from engine.protocol.device_memory import FRACTION, FRACTION_VARIABLES, Allocator, declared_fraction

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
# Without it a GPU sums gradients in another order at every run, and no resume is exact.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
# https://docs.jax.dev/en/latest/gpu_memory_allocation.html
ALLOCATOR = {
    "kind": "XLA_PYTHON_CLIENT_ALLOCATOR",
    "preallocate": "XLA_PYTHON_CLIENT_PREALLOCATE",
    "fraction": FRACTION_VARIABLES[0],
}
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def select(device: str, allocator: Allocator | None = None) -> None:
    """Set JAX's environment variables before it is imported. ``auto`` leaves the choice to JAX (and to JAX_PLATFORMS).

    ``allocator``: how it takes a GPU's memory; None: JAX's way (and its variables), but FRACTION of the memory.
    """
    if allocator is None and declared_fraction(os.environ) is None:
        os.environ[ALLOCATOR["fraction"]] = str(FRACTION)
    if allocator is not None:
        for name in FRACTION_VARIABLES:  # the older name beside the newer is an error
            os.environ.pop(name, None)
        os.environ |= {variable: str(getattr(allocator, key)).lower() for key, variable in ALLOCATOR.items()}
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # gpu and tpu are not forced: JAX must be able to list the other devices (see describe).
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides XLA's informational messages
    flags = os.environ.get("XLA_FLAGS", "")
    has_cuda = any(importlib.util.find_spec(name) for name in CUDA_PLUGINS)
    if device != "cpu" and has_cuda and "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()


def describe(device: str) -> dict[str, Any]:
    """platform, devices, device_kind, libraries. Raises InputInvalid T101 for a device that JAX does not have."""
    import jax  # only after :func:`select`

    try:
        devices = jax.devices()
    except RuntimeError as error:  # JAX_PLATFORMS names a platform that is missing here
        raise InputInvalid(
            "T101",
            f"JAX finds no device: {str(error).splitlines()[0]}",
            hint=f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', 'not set')}",
        ) from error
    backend = devices[0].platform
    kind = {"cuda": "gpu", "rocm": "gpu"}.get(backend, backend)
    if device not in ("auto", kind):
        available = ", ".join(f"{entry.platform}:{entry.device_kind}" for entry in devices)
        raise InputInvalid(
            "T101",
            f"the run-spec asks for device: {device}, and this machine has none",
            hint=f"this machine has: {available}\nwrite device: {kind} (or auto), or run on a machine with a {device}",
        )
    return {
        "platform": kind,
        "devices": [str(entry) for entry in devices],
        "device_kind": devices[0].device_kind,
        "allocator": _allocator() if kind == "gpu" else None,
        "libraries": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
    }


def _allocator() -> dict[str, str | None]:
    """The allocator settings that JAX was given; None: its own default."""
    return {key: os.environ.get(variable) for key, variable in ALLOCATOR.items()}
