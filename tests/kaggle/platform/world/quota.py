"""Accelerators, their weekly hours and how many sessions may be under way at once.

The figures and sentences are the platform's own, as its users report them (30 GPU hours, 20 TPU hours; 2, 1 and 5 sessions).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.kaggle.platform.world.clock import Clock, stamp

CPU, GPU, TPU = "CPU", "GPU", "TPU"
MOST_SESSIONS = {GPU: 2, TPU: 1, CPU: 5}
# What a machine shape becomes: the server substitutes retired shapes silently.
SHAPES = {
    "nvidiateslat4": ("NvidiaTeslaT4", GPU),
    "nvidiateslap100": ("NvidiaTeslaT4", GPU),
    "tpuv5e8": ("TpuV5E8", TPU),
    "tpuv38": ("TpuV5E8", TPU),
    "tpu1vmv38": ("TpuV5E8", TPU),
}
IMAGES = {
    CPU: "gcr.io/kaggle-images/python@sha256:0",
    GPU: "gcr.io/kaggle-gpu-images/python@sha256:0",
    TPU: "gcr.io/kaggle-images/python-tpuvm@sha256:0",
}


@dataclass(frozen=True)
class Machine:
    """What a session gets: the shape ("" is CPU), its kind, the kind of the image."""

    shape: str
    kind: str
    image_kind: str

    @property
    def image(self) -> str:
        """The image's name with its digest."""
        return IMAGES[self.image_kind]

    @property
    def session_seconds(self) -> int:
        """The longest session: 12 hours, 9 on a TPU."""
        return (9 if self.kind == TPU else 12) * 3600


def machine_for(shape: str | None, enable_gpu: bool, enable_tpu: bool) -> Machine:
    """The machine that a push gets. A shape that nobody may have is a CPU, without a word."""
    asked = (shape or "").strip().lower()
    if not asked:
        asked = "nvidiateslat4" if enable_gpu else "tpuv5e8" if enable_tpu else ""
    name, kind = SHAPES.get(asked, ("", CPU))
    return Machine(name, kind, kind)


class Quota:
    """Seconds allowed and used, by kind; what sessions use comes on top of what a test sets here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.allowed = {GPU: 30 * 3600.0, TPU: 20 * 3600.0}
        self.used = {GPU: 0.0, TPU: 0.0}
        self.refreshes_at = clock.now() + timedelta(days=7)

    def refresh(self) -> None:
        """A new week begins when the clock has passed the refresh time."""
        while self._clock.now() >= self.refreshes_at:
            self.refreshes_at += timedelta(days=7)
            self.used = {GPU: 0.0, TPU: 0.0}

    def refusal(self, kind: str, used: float, sessions: int) -> str | None:
        """The sentence that refuses one more session of this kind, or None."""
        if sessions >= MOST_SESSIONS[kind]:
            return f"Maximum batch {kind} session count of {MOST_SESSIONS[kind]} reached."
        if kind != CPU and used >= self.allowed[kind]:
            return f"Maximum weekly {kind} quota of {self.allowed[kind] / 3600:.2f} hours reached."
        return None

    def answer(self, used: dict[str, float]) -> dict[str, Any]:
        """The answer of GetAcceleratorQuotaStatistics."""
        shown = {"quotaRefreshTime": stamp(self.refreshes_at + self._clock.skew)}
        return shown | {
            f"{kind.lower()}Quota": {
                "timeUsed": f"{int(used[kind])}s",
                "totalTimeAllowed": f"{int(self.allowed[kind])}s",
                "timeReserved": "0s",
                "minimumTimeAllowed": f"{int(self.allowed[kind])}s",
                "hasEverRun": used[kind] > 0,
            }
            for kind in (GPU, TPU)
        }
