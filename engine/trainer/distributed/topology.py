"""The devices that a state was sharded over: a small record that a checkpoint carries.

In: the devices of a training run. Out: :class:`Topology`, whose text is for people.

    >>> topology = Topology(processes=1, devices=8, device_kind="TPU v5 lite", mesh={"fsdp": 8, "tp": 1})
    >>> str(topology)
    '8 x TPU v5 lite (mesh fsdp=8, tp=1)'
    >>> topology == Topology.of_json(topology.as_json())
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypedDict

import jax

from engine.trainer.distributed.placement import Placement


class TopologyJson(TypedDict):
    """A topology in a manifest or a report."""

    processes: int
    devices: int
    device_kind: str
    mesh: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Topology:
    """``devices``: of all processes together; ``mesh``: axis -> size, empty for one device without a mesh."""

    processes: int
    devices: int
    device_kind: str
    mesh: Mapping[str, int]

    @classmethod
    def of(cls, placement: Placement) -> Self:
        """Of the devices of this training run."""
        kind = jax.devices()[0].device_kind
        return cls(jax.process_count(), placement.devices, kind, placement.axes)

    @classmethod
    def of_json(cls, value: TopologyJson) -> Self:
        """From a manifest. Raises TypeError for other keys."""
        return cls(**value)

    def as_json(self) -> TopologyJson:
        """For a manifest or a report."""
        return TopologyJson(
            processes=self.processes, devices=self.devices, device_kind=self.device_kind, mesh=dict(self.mesh)
        )

    def __str__(self) -> str:
        mesh = ", ".join(f"{axis}={size}" for axis, size in self.mesh.items())
        parts = [f"mesh {mesh}"] * bool(mesh) + [f"{self.processes} processes"] * (self.processes > 1)
        return f"{self.devices} x {self.device_kind}" + (f" ({', '.join(parts)})" if parts else "")
