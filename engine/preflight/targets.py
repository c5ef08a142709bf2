"""The machines a run can be priced for, by the names of ``--target``: every machine whose compiler is known, and Kaggle's.

In: a name. Out: a :class:`PlanTarget`: the machine, its disks, and whether anybody can still get it.

    >>> TARGETS["kaggle-t4x2"].devices, TARGETS["h100"].machine.device_bytes
    (2, 84942979072)
    >>> TARGETS["kaggle-p100"].retired.instead
    'kaggle-t4x2'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from engine.errors import InputInvalid, did_you_mean
from engine.protocol.machines import MACHINES, Fact, Machine

HERE = "cpu"


@dataclass(frozen=True, slots=True)
class Retired:
    """A target that nobody gets any more: what one gets ``instead``, and who says so."""

    instead: str
    fact: Fact


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """``disks``: disk (store, hub cache, temporary) -> its bytes; one that is left out is not known.

    ``session_seconds``: after so long the session ends, whatever runs; None where there is no such limit.
    """

    name: str
    machine: Machine
    about: str
    disks: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    facts: tuple[Fact, ...] = ()
    retired: Retired | None = None
    session_seconds: int | None = None

    @property
    def devices(self) -> int:
        """How many devices it has."""
        return self.machine.devices

    @property
    def is_here(self) -> bool:
        """Whether it is this computer, whose memory and disks can be looked at."""
        return self.name == HERE


_DOCS = Fact(
    "20 GB of /kaggle/working are kept; what lies elsewhere is on a disk of the session's own, whose size is not given",
    "kaggle.com/docs/notebooks",
    "2026-11-28",
)
_HOURS = Fact(
    "a session ends after 12 hours on CPU or GPU and 9 on TPU; banners of 2026-03 say 9 of a GPU, too: plan for 9",
    "kaggle.com/docs/notebooks, and the banners of competitions",
    "2026-11-28",
)
_SESSION_SECONDS = 9 * 3600
_PUSH = "kaggle 2.2.5 and kaggle-cli issue 1198 (2026-09)"
_NO_SINGLE_T4 = Fact('"single T4 is not supported": NvidiaTeslaT4 gives two', _PUSH, "2026-11-28")
_NO_P100 = Fact("NvidiaTeslaP100 is retired: the server starts a session with T4s", _PUSH, "2026-11-28")
_V5E_8 = Fact("TpuV5E8 is the only TPU a person can choose", _PUSH, "2026-11-28")


def _kaggle(machine: str, about: str, *facts: Fact, retired: Retired | None = None) -> PlanTarget:
    disks = MappingProxyType({"store": 20_000_000_000})
    return PlanTarget(
        f"kaggle-{machine}", MACHINES[machine], about, disks, (_DOCS, _HOURS, *facts), retired, _SESSION_SECONDS
    )


TARGETS: Mapping[str, PlanTarget] = {
    target.name: target
    for target in (
        *(PlanTarget(HERE, MACHINES[HERE], MACHINES[HERE].about),),
        _kaggle("t4x2", "Kaggle, two NVIDIA T4", _NO_SINGLE_T4),
        _kaggle("v5e-8", "Kaggle, eight TPU v5e chips", _V5E_8),
        *(PlanTarget(name, machine, machine.about) for name, machine in MACHINES.items() if name != HERE),
        _kaggle("t4", "Kaggle, one NVIDIA T4", retired=Retired("kaggle-t4x2", _NO_SINGLE_T4)),
        _kaggle("p100", "Kaggle, one NVIDIA P100", retired=Retired("kaggle-t4x2", _NO_P100)),
    )
}


def target_named(name: str | None) -> PlanTarget:
    """The target; None is this machine. Raises InputInvalid (U116)."""
    if name is None:
        return TARGETS[HERE]
    if name in TARGETS:
        return TARGETS[name]
    near = did_you_mean(name, TARGETS)
    there_are = ", ".join(known for known, target in TARGETS.items() if target.retired is None)
    hint = f'did you mean "{near}"?' if near else f"there are: {there_are}"
    raise InputInvalid("U116", f'there is no target "{name}"', hint=hint)
