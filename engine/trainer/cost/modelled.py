"""How long one run of a compiled program would take on its device, by the compiler or by the device's data sheet.

In: the compiled program and JAX's name of the device's kind. Out: a :class:`Modelled`.

    modelled(compiled, "TPU v5 lite").report()["modelled_seconds"]

Two models, and the report names the one that ``modelled_seconds`` is:

``compiler``   the cycles that the TPU's compiler wrote beside each instruction, over the cycles a second of the chip. An
               instruction without (matmuls with a collective beside them, Pallas kernels) is taken at its roofline;
               ``compiler_share`` says how much of the time the compiler's figures are.
``roofline``   each instruction takes as long as the slower of its operations at the peak of the matrix units and its bytes
               at the bandwidth of the memory, one after the other.

What is sent to other devices and what is copied asynchronously is taken to go beside the rest: the time is that of the
instructions, of the memory or of the links, whichever is the longest. Neither model is a
measurement: kernels reach a part of the peaks. They serve to compare two programs on one device.

``compiler_says``: ``cost_analysis()`` as it is, without the keys of single operands. It counts the body of a loop once,
and the TPU's ``optimal_seconds`` is no time: below zero where instructions have no estimate. The GPU's compiler gives
nothing without a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from engine.protocol.peaks import bandwidth_of, cycles_of, link_of, peak_of
from engine.trainer.cost.hlo import parse
from engine.trainer.cost.work import Counted, Work, work_of

# HLO's element types by the name that the table of peaks has; what has no units is multiplied as float32.
FORMATS = {"bf16": "bfloat16", "f16": "float16"}


@dataclass(frozen=True, slots=True)
class Modelled:
    """Seconds of one run; None with a reason in ``missing`` where the device's figures are not known."""

    work: Work
    compute_seconds: float | None
    memory_seconds: float | None
    link_seconds: float | None
    roofline_seconds: float | None
    compiler_seconds: float | None
    compiler_share: float
    compiler_says: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def by(self) -> Literal["compiler", "roofline"] | None:
        """Which model ``seconds`` is."""
        if self.compiler_seconds is not None:
            return "compiler"
        return None if self.roofline_seconds is None else "roofline"

    @property
    def seconds(self) -> float | None:
        """The time of the instructions, of the memory or of the links, whichever is the longest."""
        own = self.roofline_seconds if self.compiler_seconds is None else self.compiler_seconds
        return None if own is None else max(own, self.memory_seconds or 0.0, self.link_seconds or 0.0)

    def report(self) -> dict[str, Any]:
        """For the price: plain numbers."""
        return {
            "flops": self.work.flops,
            "moved_bytes": self.work.moved,
            "collective_bytes": self.work.sent,
            "collective_bytes_by_kind": dict(self.work.sent_by),
            "modelled_seconds": self.seconds,
            "modelled_by": self.by,
            "compute_seconds": self.compute_seconds,
            "memory_seconds": self.memory_seconds,
            "link_seconds": self.link_seconds,
            "roofline_seconds": self.roofline_seconds,
            "compiler_seconds": self.compiler_seconds,
            "compiler_share": self.compiler_share,
            "compiler_says": dict(self.compiler_says),
            "loops_counted_once": list(self.work.unknown_loops),
            "missing": list(self.missing),
        }


def modelled(
    compiled: jax.stages.Compiled, device_kind: str, trips: Mapping[str, float] | None = None, tiles: float = 1.0
) -> Modelled:
    """``trips`` of loops whose trip counts depend on data, ``tiles`` of attention kernels: see engine.trainer.cost.work."""
    text = compiled.as_text()
    assert text is not None  # every compiler here gives its program
    costs: Any = compiled.cost_analysis() or {}
    totals = {name: float(value) for name, value in costs.items() if "{" not in name}
    return of_work(work_of(parse(text), trips, tiles), device_kind, totals)


def of_work(work: Work, device_kind: str, compiler_says: Mapping[str, float] | None = None) -> Modelled:
    """The times of what was counted, on a device of this kind."""
    bandwidth, link, clock = bandwidth_of(device_kind), link_of(device_kind), cycles_of(device_kind)
    missing = []
    if bandwidth is None:
        missing.append(peak_of(device_kind, "float32").reason or "")
    if link is None and work.sent:
        missing.append(f'no vendor\'s figure is known for the links of a device of the kind "{device_kind}"')
    link_seconds = None if link is None else work.sent / link
    if bandwidth is None:
        return Modelled(work, None, None, link_seconds, None, None, 0.0, compiler_says or {}, tuple(missing))
    compute = [_compute_seconds(done, device_kind) for done in work.done]
    moving = [done.moved / bandwidth for done in work.done]
    beside = [done.opcode.endswith("-start") for done in work.done]
    rooflines = [0.0 if aside else max(pair) for aside, *pair in zip(beside, compute, moving, strict=True)]
    counted = [done.cycles for done in work.done]
    by_compiler, share = None, 0.0
    if clock is not None and any(counted):
        times = [roof if own is None else own / clock for own, roof in zip(counted, rooflines, strict=True)]
        by_compiler = sum(times)
        share = sum(own / clock for own in counted if own is not None) / by_compiler
    return Modelled(
        work, sum(compute), sum(moving), link_seconds, sum(rooflines), by_compiler, share, compiler_says or {},
        tuple(missing),
    )  # fmt: skip


def _compute_seconds(done: Counted, device_kind: str) -> float:
    """Operations at the peak for their operands."""
    if not done.flops.count:
        return 0.0
    own = peak_of(device_kind, FORMATS.get(done.flops.dtype, "float32")).flops
    peak = own or peak_of(device_kind, "float32").flops
    assert peak is not None  # a kind with a bandwidth has a figure for float32
    return done.flops.count / peak
