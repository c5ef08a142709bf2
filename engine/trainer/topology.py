"""What a state was spread over: a small record that a checkpoint carries, and what resuming on another one means.

In: the devices of a training. Out: :class:`Topology`, which says itself in words, and the number of micro-batches with
which another number of devices takes the same sequences a train step.

    >>> there = Topology(processes=1, devices=8, device_kind="TPU v5 lite", mesh={"data": 8})
    >>> str(there)
    '8 x TPU v5 lite (mesh data=8)'
    >>> there == Topology.of_json(there.as_json())
    True
    >>> micro_batches(16, per_device=2, devices=4), micro_batches(16, per_device=2, devices=3)
    (2, None)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import jax

from engine.trainer.device import Placement


@dataclass(frozen=True, slots=True)
class Topology:
    """``devices``: of all processes together; ``mesh``: axis -> size, empty for one device without a mesh."""

    processes: int
    devices: int
    device_kind: str
    mesh: Mapping[str, int]

    @classmethod
    def of(cls, placement: Placement) -> Self:
        """Of the devices that a training runs on."""
        kind = jax.devices()[0].device_kind
        return cls(jax.process_count(), placement.devices, kind, placement.axes)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self:
        """From a mark. Raises TypeError for other keys."""
        return cls(**value)

    def as_json(self) -> dict[str, Any]:
        """For a mark or a report."""
        return asdict(self)

    def __str__(self) -> str:
        mesh = ", ".join(f"{axis}={size}" for axis, size in self.mesh.items())
        parts = [f"mesh {mesh}"] * bool(mesh) + [f"{self.processes} processes"] * (self.processes > 1)
        return f"{self.devices} x {self.device_kind}" + (f" ({', '.join(parts)})" if parts else "")


def micro_batches(sequences_per_step: int, *, per_device: int, devices: int) -> int | None:
    """Micro-batches in which ``devices`` take a train step's sequences; None where they do not divide."""
    at_once = per_device * devices
    return None if sequences_per_step % at_once else sequences_per_step // at_once


def fitting_devices(sequences_per_step: int, per_device: int) -> list[int]:
    """Numbers of devices for which :func:`micro_batches` has an answer.

    >>> fitting_devices(16, per_device=2)
    [1, 2, 4, 8]
    """
    most = sequences_per_step // per_device
    return [count for count in range(1, most + 1) if sequences_per_step % (per_device * count) == 0]
