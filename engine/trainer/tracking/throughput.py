"""What is measured of a training beside its loss: how long train steps take, how well the devices are used, memory.

What goes in: what is trained, rows of metrics as :mod:`engine.trainer.loop` makes them. What comes out: the same rows
with more columns, and at the end a part of the report.

    throughput = ThroughputMetrics(config, args, data.packed.plan.lengths, machine)
    row = throughput.measured(row)       # adds warm_up, mfu, device_bytes_in_use, device_peak_bytes
    throughput.report(rows)              # step_seconds, mfu, …, and under not_applicable why something is null

Columns of a row that cannot be measured here are left out of it (the report has the reason); ``warm_up: true`` marks the
first train step of a process, which pays for what is done once, ``profiled: true`` those under the profiler. Percentiles
and MFU leave both out.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from engine.protocol.train_args import TrainArgs
from engine.trainer.lora.adapters import LoraArgs
from engine.trainer.models.config import DecoderConfig
from engine.trainer.tracking.flops import flops_per_token, mfu, visible_keys
from engine.trainer.tracking.peak_flops import peak_of

PERCENTILES = (50, 90, 99)
DIGITS = 4
NO_MEMORY = "the {} backend of JAX keeps no account of its memory; process_peak_bytes is the whole process's"
TOO_FEW = "no train step but the first of a process was measured"
Row = Mapping[str, Any]


class ThroughputMetrics:
    """Measures one training in one process. ``lengths``: tokens of each row (piece) that is trained on."""

    def __init__(self, config: DecoderConfig, args: TrainArgs, lengths: Any, machine: Mapping[str, Any]) -> None:
        lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets) if args.method == "lora" else None
        self.flops_per_token = flops_per_token(config, visible_keys(lengths, config), lora)
        self.peak = peak_of(machine["device_kind"], machine.get("matmul_dtype", args.dtype))
        self._devices, self._platform = len(machine["devices"]), machine["platform"]
        self._warm_up = True

    def measured(self, row: Row) -> dict[str, Any]:
        """The row and what can be said beside it, just after its train step."""
        found = dict(row)
        if self._warm_up:
            found["warm_up"], self._warm_up = True, False
        share = self._mfu(row["tokens_per_second"])
        if share is not None:
            found["mfu"] = round(share, DIGITS)
        return found | device_memory()

    def report(self, rows: Sequence[Row]) -> dict[str, Any]:
        """For the report; rows may be of several processes, one after the other."""
        warm = [row for row in rows if _counts(row)]
        seconds = sum(row["seconds"] for row in warm)
        pace = sum(row["tokens_per_second"] * row["seconds"] for row in warm) / seconds if warm else None
        share = None if pace is None else self._mfu(pace)
        reasons = {} if warm else {"step_seconds": TOO_FEW}
        if share is None:
            reasons["mfu"] = self.peak.reason or TOO_FEW
        peaks = [row["device_peak_bytes"] for row in rows if "device_peak_bytes" in row]
        if not peaks:
            reasons["device_peak_bytes"] = NO_MEMORY.format(self._platform)
        return {
            "step_seconds": step_seconds(rows),
            "mfu": None if share is None else round(share, DIGITS),
            "model_flops_per_token": round(self.flops_per_token),
            "peak_flops_per_device": self.peak.flops,
            "peak_flops_source": self.peak.source,
            "device_peak_bytes": max(peaks, default=None),
            "process_peak_bytes": process_peak_bytes(),
            "not_applicable": reasons | ({"peak_flops_per_device": self.peak.reason} if self.peak.reason else {}),
        }

    def _mfu(self, tokens_per_second: float) -> float | None:
        if self.peak.flops is None:
            return None
        return mfu(
            self.flops_per_token,
            tokens_per_second=tokens_per_second,
            devices=self._devices,
            peak_flops=self.peak.flops,
        )


def step_seconds(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Percentiles of the train steps' seconds, interpolated between ranks; None with nothing but warm-up.

    >>> step_seconds([{"seconds": 9.0, "warm_up": True}, *({"seconds": s} for s in (1.0, 2.0, 3.0))])
    {'p50': 2.0, 'p90': 2.8, 'p99': 2.98, 'n_train_steps': 3, 'warm_up': [9.0]}
    """
    warm = [row["seconds"] for row in rows if _counts(row)]
    if not warm:
        return None
    found = np.percentile(np.asarray(warm, np.float64), PERCENTILES)
    named = {f"p{rank}": round(float(value), DIGITS) for rank, value in zip(PERCENTILES, found, strict=True)}
    return {**named, "n_train_steps": len(warm), "warm_up": [row["seconds"] for row in rows if row.get("warm_up")]}


def _counts(row: Row) -> bool:
    """Not the first train step of a process, and none that ran under the profiler."""
    return not row.get("warm_up") and not row.get("profiled")


def device_memory() -> dict[str, int]:
    """Bytes in use and the most there were, of the fullest device of this process; {} where JAX does not know."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    named = {"bytes_in_use": "device_bytes_in_use", "peak_bytes_in_use": "device_peak_bytes"}
    return {ours: max(int(one[theirs]) for one in stats) for theirs, ours in named.items() if theirs in stats[0]}


def process_peak_bytes() -> int:
    """The most memory this process has had resident, files it maps included: Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
