"""Which devices a job runs on: chosen before JAX starts, checked after.

select("cpu")             # before the first import of jax
describe("cpu")           # after: platform, devices, device_kind; raises T101 where it is not there
"""

from __future__ import annotations

import importlib.util
import os
from importlib import metadata
from typing import Any

from engine.errors import InputInvalid
from engine.protocol.jobs import Allocator

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


def select(device: str, allocator: Allocator | None = None) -> None:
    """Tell JAX, before it is imported. ``auto`` leaves the choice to JAX (and to JAX_PLATFORMS).

    ``allocator``: how it takes a GPU's memory; None leaves that to JAX (and to its variables).
    """
    if allocator is not None:
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # the older name beside the newer is an error
        os.environ |= {variable: str(getattr(allocator, key)).lower() for key, variable in ALLOCATOR.items()}
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
