"""Throughput metrics of a training run: time of train steps, utilization of the devices, memory.

In: the model's configuration, rows of metrics as :mod:`engine.trainer.loop` makes them. Out: the same rows with more
columns, and at the end a part of the report.

    throughput = ThroughputMetrics(config, args, data.packed.plan.lengths, machine)
    row = throughput.measured(row)       # adds warm_up, mfu, device_bytes_in_use, device_peak_bytes
    throughput.report(rows)              # step_seconds, mfu, …, and under not_applicable why something is null

Columns that cannot be measured here are left out of a row (the report has the reason); ``warm_up: true`` marks the first
train step of a process, which includes one-time work, ``profiled: true`` those under the profiler. Percentiles and MFU
leave both out.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from engine.model_config.decoder import DecoderConfig
from engine.protocol.peaks import peak_of
from engine.protocol.train_args import TrainArgs
from engine.trainer.lora.adapters import LoraArgs
from engine.trainer.metrics import MetricsRow
from engine.trainer.tracking.flops import flops_per_token, mfu, visible_keys

PERCENTILES = (50, 90, 99)
DIGITS = 4
NO_MEMORY = "JAX's {} backend does not report its memory; process_peak_bytes is the whole process's"
TOO_FEW = "only the first train step of a process was measured"


class ThroughputMetrics:
    """Measures one training run in one process. ``lengths``: tokens of each row (piece) that is trained on."""

    def __init__(self, config: DecoderConfig, args: TrainArgs, lengths: ArrayLike, machine: Mapping[str, Any]) -> None:
        lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets) if args.method == "lora" else None
        self.flops_per_token = flops_per_token(config, visible_keys(lengths, config), lora)
        self.peak = peak_of(machine["device_kind"], machine.get("matmul_dtype", args.dtype))
        self._devices, self._platform = len(machine["devices"]), machine["platform"]
        self._warm_up = True

    def measured(self, row: MetricsRow) -> dict[str, Any]:
        """The row with what is measured beside it, right after its train step."""
        measured = dict(row)
        if self._warm_up:
            measured["warm_up"], self._warm_up = True, False
        share = self._mfu(row["tokens_per_second"])
        if share is not None:
            measured["mfu"] = round(share, DIGITS)
        return measured | device_memory()

    def report(self, rows: Sequence[MetricsRow]) -> dict[str, Any]:
        """For the report; rows may come from several processes, one after the other."""
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


def step_seconds(rows: Sequence[MetricsRow]) -> dict[str, Any] | None:
    """Percentiles of the train steps' seconds, interpolated between ranks; None if there is only warm-up.

    >>> step_seconds([{"seconds": 9.0, "warm_up": True}, *({"seconds": s} for s in (1.0, 2.0, 3.0))])
    {'p50': 2.0, 'p90': 2.8, 'p99': 2.98, 'n_train_steps': 3, 'warm_up': [9.0]}
    """
    warm = [row["seconds"] for row in rows if _counts(row)]
    if not warm:
        return None
    values = np.percentile(np.asarray(warm, np.float64), PERCENTILES)
    named = {f"p{rank}": round(float(value), DIGITS) for rank, value in zip(PERCENTILES, values, strict=True)}
    return {**named, "n_train_steps": len(warm), "warm_up": [row["seconds"] for row in rows if row.get("warm_up")]}


def _counts(row: MetricsRow) -> bool:
    """Whether this is neither the first train step of a process nor one under the profiler."""
    return not row.get("warm_up") and not row.get("profiled")


def device_memory() -> dict[str, int]:
    """Bytes in use and their peak, of this process's fullest device; {} if JAX does not report them."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    columns = {"bytes_in_use": "device_bytes_in_use", "peak_bytes_in_use": "device_peak_bytes"}
    return {column: max(int(of[name]) for of in stats) for name, column in columns.items() if name in stats[0]}


def process_peak_bytes() -> int:
    """The peak resident memory of this process, mapped files included: Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
