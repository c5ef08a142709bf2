"""The time of a run on a target: what its arithmetic takes at a share of the vendor's peak, beside the hours that a session has.

In: the run-spec, the model's shapes, the target. Out: the ``time`` part of ``plan --json``. It is an estimate and calls itself one: two
seconds-by-the-data-sheet figures, divided by SHARE_OF_PEAK.

- Training: forward and backward of every token, padding included: 6 operations a parameter, 4 where only adapters are trained. The
  smoke run's train steps are taken twice, since it is killed and resumed.
- Generation: every new token reads all weights once for a batch of answers, from the memory of each device.

Not in it: download, compilation, loading, saving, evaluation. What a machine of the kind really does is in the train report of a run
(``mfu``); the smoke run shows it within minutes.

    >>> round(train_seconds(params=2_506_172_416, tokens=204_800, devices=2, flops=65e12))
    118
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.canonical import JsonMapping, JsonObject
from engine.model_config.shapes import DTYPE_BYTES, param_count
from engine.preflight.shards import mesh_of
from engine.preflight.targets import PlanTarget
from engine.protocol.machines import Machine
from engine.protocol.peaks import bandwidth_of, peak_of
from engine.runspec.model import Spec

SHARE_OF_PEAK = 0.2
ASSUMES = f"{SHARE_OF_PEAK:.0%} of the vendor's peak; without download, compilation, loading and saving"
NO_STEPS = "a training step does not say how many train steps it takes"


def time_part(
    spec: Spec, config: JsonMapping, training: Mapping[str, JsonMapping], smoke: JsonMapping | None, target: PlanTarget
) -> JsonObject:
    """``training``: id of each training step -> its arguments; ``smoke``: those of the smoke run's job, if there is one.

    ``seconds`` is null with a ``reason`` where the target's speed is not known.
    """
    terms: dict[str, float] = {}
    kind = target.machine.kind
    jobs = [(name, 1, args) for name, args in training.items()]
    if smoke is not None:
        jobs.insert(0, ("smoke run", 2, smoke))
    for name, times, args in jobs:
        peak = peak_of(kind, _multiplies_in(args, target.machine))
        if peak.flops is None:
            return unknown_time(peak.reason, target)
        if "num_train_steps" not in args:
            return unknown_time(NO_STEPS, target)
        trained = train_seconds(
            params=param_count(config), tokens=_tokens(args, target.devices), devices=target.devices,
            flops=peak.flops, is_lora=args.get("method") == "lora",
        )  # fmt: skip
        terms[name] = times * trained
    bandwidth = bandwidth_of(kind) or math.nan  # a kind with a peak has one: both stand in one row
    for step in spec.steps:
        if "max_new_tokens" in step.args and "batch_size" in step.args:
            dtype = next((str(args["dtype"]) for args in reversed(list(training.values()))), "float32")
            weights = param_count(config) * DTYPE_BYTES[dtype]
            terms[step.id] = _new_tokens(spec, step.args) * weights / (bandwidth * SHARE_OF_PEAK)
    seconds = sum(terms.values())
    limit = target.session_seconds
    return {
        "seconds": round(seconds, 1),
        "seconds_at_peak": round(seconds * SHARE_OF_PEAK, 1),
        "limit_seconds": limit,
        "fits": None if limit is None else seconds <= limit,
        "source": "analytic",
        "terms": {name: round(value, 1) for name, value in terms.items()},
        "assumes": ASSUMES,
    }


def train_seconds(*, params: int, tokens: int, devices: int, flops: float, is_lora: bool = False) -> float:
    """Seconds for so many tokens. ``flops``: the peak of one device, operations a second."""
    return (4 if is_lora else 6) * params * tokens / (devices * flops * SHARE_OF_PEAK)


def unknown_time(reason: str | None, target: PlanTarget) -> JsonObject:
    """The part of a run whose model's shapes, or whose target's speed, are not known."""
    return {"seconds": None, "reason": reason, "limit_seconds": target.session_seconds, "fits": None}


def _multiplies_in(args: JsonMapping, machine: Machine) -> str:
    """The dtype of the matmuls, as the trainer chooses it on such a device."""
    declared = args.get("matmul_dtype", "auto")
    if declared != "auto":
        return str(declared)
    return machine.multiplies_bfloat16_in if args["dtype"] == "bfloat16" else str(args["dtype"])


def _tokens(args: JsonMapping, devices: int) -> int:
    """All tokens of the training step, padding included."""
    rows = int(args["per_device_batch_size"]) * mesh_of(args, devices).fsdp * int(args["grad_accum_steps"])
    return int(args["num_train_steps"]) * rows * int(args["seq_len"])


def _new_tokens(spec: Spec, args: Mapping[str, Any]) -> int:
    """How often the weights are read: the most new tokens of each batch of answers."""
    items = sum(bool(line.strip()) for line in spec.resolve(spec.eval_set).read_bytes().split(b"\n"))
    return math.ceil(items / int(args["batch_size"])) * int(args["max_new_tokens"])
