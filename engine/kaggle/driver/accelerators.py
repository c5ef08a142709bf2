"""The machines of Kaggle by the names of ``--target``, and what a push must say to get one.

In: a run-spec's ``device`` and ``--target``. Out: an :class:`Accelerator`. The platform substitutes silently what it no longer has, and gives a
CPU where the push names the wrong image: so what is retired is refused here, and only the machine's shape is sent, never an image.

    >>> accelerator_for("tpu", None).machine_shape, accelerator_for("cpu", None).machine_shape
    ('TpuV5E8', None)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.errors import InputInvalid
from engine.preflight.targets import target_named

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``quota``: which weekly quota it takes from. ``sessions``: how many may run or wait at once. ``most_seconds`` of one session."""

    target: str
    machine_shape: str | None
    quota: Literal["gpu", "tpu"] | None
    sessions: int
    most_seconds: int


# kaggle.com/docs/notebooks, kaggle 2.2.5, kaggle-cli issue 1198; read on 2026-11-28.
ACCELERATORS: Mapping[str, Accelerator] = {
    row.target: row
    for row in (
        Accelerator("kaggle-t4x2", "NvidiaTeslaT4", "gpu", 2, 12 * HOUR),
        Accelerator("kaggle-v5e-8", "TpuV5E8", "tpu", 1, 9 * HOUR),
        Accelerator("cpu", None, None, 5, 12 * HOUR),
    )
}
_OF_DEVICE = {"gpu": "kaggle-t4x2", "tpu": "kaggle-v5e-8", "cpu": "cpu"}
_CHOICES = "--target kaggle-t4x2 (two T4), --target kaggle-v5e-8 (a TPU) or --target cpu"


def accelerator_for(device: str, target: str | None) -> Accelerator:
    """Raises InputInvalid G223 for a machine that Kaggle has not, or no longer; G225 where neither says which."""
    if target is None:
        if device not in _OF_DEVICE:
            raise InputInvalid("G225", "nothing says which machine of Kaggle's to run on: device is auto",
                               hint=f"add {_CHOICES}")  # fmt: skip
        return ACCELERATORS[_OF_DEVICE[device]]
    named = target_named(target)
    if named.retired is not None:
        raise InputInvalid(
            "G223", f"{target} is gone: {named.retired.fact.says}", hint=f"--target {named.retired.instead}"
        )
    if target not in ACCELERATORS:
        raise InputInvalid("G223", f"{target} is no machine of Kaggle's", hint=f"one of {_CHOICES}")
    found = ACCELERATORS[target]
    if device != "auto" and _OF_DEVICE[device] != target:
        raise InputInvalid("G223", f"the run-spec says device: {device}, and {target} is another machine",
                           hint=f"leave --target out, or override it: device={_device_of(target)}")  # fmt: skip
    return found


def _device_of(target: str) -> str:
    return next(device for device, name in _OF_DEVICE.items() if name == target)
