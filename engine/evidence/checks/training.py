"""V13: the rows of metrics.jsonl and the training report, as far as arguments, run-spec and rows decide them.

In: the evidence. Out: the check's answer. One row a train step; the learning rate is the declared schedule's; every row's speed
is a whole number of tokens in its seconds, and these tokens are those that the report says were seen; percentiles, counts of rows
and parameters, batch and devices follow. What only the training itself shows (a loss, a time) is stated.

    >>> [round(rate({"learning_rate": 1.0, "lr_schedule": "linear", "num_train_steps": 10, "warmup_steps": 2}, step), 3)
    ...     for step in (1, 2, 3, 7, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engine.artifacts.journal import RunRecord, StepRecord
from engine.canonical import JsonMapping, JsonObject
from engine.evidence.checks.recorded import recorded_run
from engine.evidence.contents import Answer, Broken, Evidence, answer, changes, equal_values
from engine.model_config.shapes import KNOWN_CONFIGS, NEEDED, TOKENIZER_VOCABULARY, adapter_params, param_count

FLOAT32 = 1e-5  # the rate is computed in float32, by sums and a cosine
LAST_DIGIT = 0.06  # of tokens_per_second, which has one
PERCENTILES = (50, 90, 99)
# Rule for long rows -> what it never does to a row. One that is truncated before its answer begins is dropped.
NOT_BY = {
    "fail": ("n_dropped", "n_truncated", "n_split"),
    "drop": ("n_truncated", "n_split"),
    "truncate": ("n_split",),
    "split": ("n_dropped", "n_truncated"),
}


def metrics_follow(evidence: Evidence) -> Answer:
    """V13."""
    rows = evidence.metrics
    if not rows:
        return "fail", "metrics.jsonl has no rows"
    if [row.get("train_step") for row in rows] != list(range(1, len(rows) + 1)):
        return "fail", "metrics.jsonl does not have one row for each train step"
    record, report = recorded_run(evidence), evidence.json("train_report.json")
    step = record.step_of("train_sft")
    if step is None:
        raise Broken("run_record.json has no train_sft step")
    problems = []
    if len(rows) != step.args["num_train_steps"]:
        problems.append("the number of rows is not the number of train steps")
    if not equal_values(report["final_loss"], rows[-1]["loss"]):
        problems.append(f"the last row has the loss {rows[-1]['loss']!r:.40}, and train_report.json another")
    problems += _rates(rows, step.args)
    problems += _tokens(rows, report, step.args)
    problems += changes(_percentiles(rows), report["step_seconds"], "train_report.json: step_seconds")
    expected = {**_counts(record, step, report), **_params(step), **_devices(rows, step, report)}
    problems += [
        f"train_report.json: {change}" for change in changes(expected, {name: report[name] for name in expected})
    ]
    return answer(problems, f"{len(rows)} train steps at the declared rates, last loss {rows[-1]['loss']:.4f}")


def rate(args: JsonMapping, train_step: int) -> float:
    """The learning rate of a train step (from 1): linear warm-up, then the schedule; as the trainer's optimizer has it."""
    peak, warmup, step = float(args["learning_rate"]), int(args["warmup_steps"]), train_step - 1
    if step < warmup:
        first = peak / warmup
        return first + (peak - first) * min(step / max(1, warmup - 1), 1.0)
    share = min((step - warmup) / max(1, int(args["num_train_steps"]) - warmup), 1.0)
    if args["lr_schedule"] == "constant":
        return peak
    return peak * (1 - share if args["lr_schedule"] == "linear" else 0.5 * (1 + math.cos(math.pi * share)))


def _rates(rows: Sequence[JsonMapping], args: JsonMapping) -> Iterator[str]:
    for row in rows:
        expected = rate(args, row["train_step"])
        if abs(row["learning_rate"] - expected) > FLOAT32 * float(args["learning_rate"]):
            yield f"train step {row['train_step']} has the learning rate {row['learning_rate']!r:.30}, and {expected:.6g} was declared"


def _tokens(rows: Sequence[JsonMapping], report: JsonMapping, args: JsonMapping) -> Iterator[str]:
    """Tokens of a row are speed times seconds: a whole number, with room for those that are trained, within the batch."""
    room, total, doubt = report["sequences_per_train_step"] * args["seq_len"], 0, 0.0
    # Earlier engines wrote four digits of the seconds, and divided by all of them.
    unit = 0.0 if any(row["seconds"] != round(row["seconds"], 4) for row in rows) else 6e-5
    for row in rows:
        tokens = row["tokens_per_second"] * row["seconds"]
        slack = LAST_DIGIT * row["seconds"] + unit * row["tokens_per_second"] + 1e-6
        whole = round(tokens)
        if abs(tokens - whole) > slack:
            yield f"train step {row['train_step']}: tokens_per_second times seconds is {tokens:.4f}, no number of tokens"
        if not 0 <= row["tokens"] <= whole + slack or whole > room + slack:
            yield f"train step {row['train_step']}: {row['tokens']} trained of {whole} tokens do not fit a batch of {room}"
        total, doubt = total + whole, doubt + (slack if slack >= 0.5 else 0.0)
    if abs(total - report["tokens_seen"]) > doubt:
        yield f"train_report.json: tokens_seen is {report['tokens_seen']}, and the rows have {total}"


def _percentiles(rows: Sequence[JsonMapping]) -> JsonObject | None:
    """Of the rows that are neither a process's first nor profiled, interpolated between ranks."""
    warm = sorted(row["seconds"] for row in rows if not row.get("warm_up") and not row.get("profiled"))
    if not warm:
        return None
    named = {}
    for rank in PERCENTILES:
        place = (len(warm) - 1) * rank / 100
        low = math.floor(place)
        high = min(low + 1, len(warm) - 1)
        named[f"p{rank}"] = round(warm[low] + (warm[high] - warm[low]) * (place - low), 4)
    return {**named, "n_train_steps": len(warm), "warm_up": [row["seconds"] for row in rows if row.get("warm_up")]}


def _counts(record: RunRecord, step: StepRecord, report: JsonMapping) -> JsonObject:
    """Rows that were trained on, withheld, dropped and changed: all the rows of the data set, by the declared rule."""
    args, dataset = step.args, record.step_of("build_dataset")
    n_rows = None if dataset is None else dataset.artifact.facts["n_rows"]
    none = dict.fromkeys(NOT_BY[args["on_long_row"]], 0)
    left = n_rows - args["eval_rows"] - report["n_dropped"]
    return {**none, "n_eval_rows": args["eval_rows"], "n_rows": left}


def _params(step: StepRecord) -> JsonObject:
    """Numbers of parameters, where run-spec or model name give the shapes."""
    declared = step.artifact.ingredients["spec"]["model"]["declared"]
    config: JsonMapping = {}
    if declared["config"] is not None:
        config = {"vocab_size": TOKENIZER_VOCABULARY.get(declared["tokenizer"] or "chars"), **declared["config"]}
    elif declared["path"] is None:
        config = KNOWN_CONFIGS.get(declared["id"], {})
    if any(not isinstance(config.get(name), int) for name in NEEDED):
        return {}
    params = param_count(config)
    return {
        "params": params,
        "trained_params": adapter_params(config, step.args) if step.args["method"] == "lora" else params,
    }


def _devices(rows: Sequence[JsonMapping], step: StepRecord, report: JsonMapping) -> JsonObject:
    """The batch over the mesh, the devices by number and kind, and their fullest memory."""
    args, topology = step.args, report["topology"]
    peaks = [row["device_peak_bytes"] for row in rows if "device_peak_bytes" in row]
    expected: JsonObject = {
        "topology": {**topology, "devices": len(report["devices"]), "device_kind": report["device_kind"]},
        "device_peak_bytes": max(peaks, default=None),
    }
    if args["global_batch_size"] is not None:
        expected["sequences_per_train_step"] = args["global_batch_size"]
    elif not report["moves"]:
        ranks = int(topology["mesh"].get("fsdp", 1))
        expected["sequences_per_train_step"] = args["per_device_batch_size"] * args["grad_accum_steps"] * ranks
    if args["matmul_dtype"] != "auto":
        expected["matmul_dtype"] = args["matmul_dtype"]
    expected["mfu"] = None if report["peak_flops_per_device"] is None else _mfu(rows, report)
    return expected


def _mfu(rows: Sequence[JsonMapping], report: JsonMapping) -> float | None:
    """The share of the devices' peak that the tokens of the rows needed."""
    warm = [row for row in rows if not row.get("warm_up") and not row.get("profiled")]
    if not warm:
        return None
    seconds = sum(row["seconds"] for row in warm)
    pace: float = sum(row["tokens_per_second"] * row["seconds"] for row in warm) / seconds
    return round(
        float(report["model_flops_per_token"])
        * pace
        / (len(report["devices"]) * float(report["peak_flops_per_device"])),
        4,
    )
