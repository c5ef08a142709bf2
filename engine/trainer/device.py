"""Which device a job runs on: chosen before JAX starts, checked after.

    select("cpu")             # before the first import of jax
    describe("cpu")           # after: platform, devices, device_kind; raises T101 where it is not there
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

from engine.errors import InputInvalid

PLATFORMS = {"cpu": "cpu", "gpu": "cuda,rocm", "tpu": "tpu"}
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def select(device: str) -> None:
    """Tell JAX, before it is imported. ``auto`` leaves the choice to JAX (and to JAX_PLATFORMS)."""
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # gpu and tpu are not forced: JAX must be able to say what else is there (see describe).
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's notes are no news


def describe(device: str) -> dict[str, Any]:
    """platform, devices, device_kind, libraries. Raises InputInvalid T101 for a device that is not there."""
    import platform

    import jax

    devices = jax.devices()
    found = devices[0].platform
    kind = {"cuda": "gpu", "rocm": "gpu"}.get(found, found)
    if device not in ("auto", kind):
        there = ", ".join(f"{entry.platform}:{entry.device_kind}" for entry in devices)
        raise InputInvalid(
            "T101", f"the run-spec asks for device: {device}, and there is none here",
            hint=f"here is: {there}\nwrite device: {kind} (or auto), or run on a machine with a {device}",
        )  # fmt: skip
    return {
        "platform": kind,
        "devices": [str(entry) for entry in devices],
        "device_kind": devices[0].device_kind,
        "libraries": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
    }
