"""What is measured beside the loss: operations counted from the configuration, peaks, percentiles, memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.protocol.peaks import Peak, peak_of
from engine.trainer.lora.adapters import LoraArgs, LoraParam, attach
from engine.trainer.models import config_from_hf, create
from engine.trainer.tracking import throughput
from engine.trainer.tracking.flops import flops_per_token, visible_keys
from engine.trainer.tracking.throughput import ThroughputMetrics

SIZES = {
    "vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = ["gemma", "gemma2", "gemma3_text"]
T4 = {"device_kind": "Tesla T4", "devices": ["cuda:0", "cuda:1"], "platform": "gpu"}
CPU = {"device_kind": "cpu", "devices": ["cpu:0"], "platform": "cpu"}


def dots(jaxpr: Any) -> int:
    """2 m k n of every matmul in a program, those in its loops as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval, equation.outvars[0].aval
            total += 2 * int(np.prod(out.shape)) * int(np.prod([left.shape[axis] for axis in contracted]))
        inner = dots_of_children(equation)
        total += inner * (equation.params["length"] if equation.primitive.name == "scan" else 1)
    return total


def dots_of_children(equation: Any) -> int:
    children = [
        child for value in equation.params.values() for child in (value if isinstance(value, tuple) else [value])
    ]
    return sum(
        dots(getattr(child, "jaxpr", child)) for child in children if hasattr(getattr(child, "jaxpr", child), "eqns")
    )


def losses(model: Any, kind: Any = ...) -> tuple[Callable[..., jax.Array], Any]:
    """(a loss of the weights of this kind, these weights): the plain head, no rows packed."""
    graph, selected, *rest = nnx.split(model, kind, ...) if kind is not ... else nnx.split(model, ...)

    def loss(weights: Any) -> jax.Array:
        tokens = jnp.ones((1, 8), jnp.int32)
        positions = jnp.arange(8, dtype=jnp.int32)[None]
        logits = nnx.merge(graph, weights, *rest)(tokens, positions=positions)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, :, 0])

    return loss, selected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_count_is_that_of_the_program(family: str) -> None:
    """Forward and backward as JAX traces them have exactly the counted matmuls, with all keys visible."""
    config = config_from_hf({"model_type": family, **SIZES})
    loss, weights = losses(create(config, seed=0))
    counted = 8 * flops_per_token(config, (8.0,) * 2)
    assert dots(jax.make_jaxpr(jax.value_and_grad(loss))(weights).jaxpr) == counted
    assert dots(jax.make_jaxpr(loss)(weights).jaxpr) == counted / 3


def test_frozen_matrices_have_no_gradient_of_their_own() -> None:
    """With adapters the program has two passes over the frozen matrices and three over everything else."""
    config, lora = config_from_hf({"model_type": "gemma", **SIZES}), LoraArgs(rank=3, alpha=6.0)
    loss, adapters = losses(attach(create(config, seed=0), lora, seed=0), LoraParam)
    counted = 8 * flops_per_token(config, (8.0,) * 2, lora)
    traced = dots(jax.make_jaxpr(jax.value_and_grad(loss))(adapters).jaxpr)
    assert traced == counted
    assert counted < 8 * flops_per_token(config, (8.0,) * 2)


def test_visible_keys_are_those_of_the_mask() -> None:
    """The mean over all tokens of all rows, layer by layer, is the count of each row's mask."""
    config = config_from_hf({"model_type": "gemma2", **SIZES, "sliding_window": 5})
    lengths = [1, 4, 5, 6, 17]

    def counted(window: int) -> float:
        masks = [np.tril(np.ones((n, n))) - np.tril(np.ones((n, n)), -window) for n in lengths]
        return sum(mask.sum() for mask in masks) / sum(lengths)

    assert visible_keys(lengths, config) == pytest.approx((counted(5), counted(100)), abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "dtype", "tera"),
    [
        ("Tesla T4", "float16", 65), ("Tesla T4", "float32", 8.1), ("Tesla P100-PCIE-16GB", "float32", 9.3),
        ("Tesla V100-SXM2-32GB", "float16", 125), ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100-SXM4-40GB", "float32", 156), ("NVIDIA H100 80GB HBM3", "bfloat16", 989.5),
        ("NVIDIA H100 PCIe", "bfloat16", 756.5), ("NVIDIA H200", "bfloat16", 989.5), ("NVIDIA L4", "bfloat16", 121),
        ("TPU v2", "bfloat16", 22.5), ("TPU v3", "bfloat16", 61.5), ("TPU v4", "bfloat16", 275),
        ("TPU v5 lite", "bfloat16", 197), ("TPU v5", "bfloat16", 459), ("TPU v6 lite", "bfloat16", 918),
    ],
)  # fmt: skip
def test_peaks_of_the_devices_people_have(kind: str, dtype: str, tera: float) -> None:
    """Each has the vendor's figure and its document."""
    peak = peak_of(kind, dtype)
    assert peak.flops == pytest.approx(tera * 1e12)
    assert peak.source


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("cpu", "float32"), ("NVIDIA L40", "bfloat16"), ("NVIDIA H100", "bfloat16"), ("TPU v5 litepod", "bfloat16"),
        ("Tesla T4", "bfloat16"), ("Tesla P100-PCIE-16GB", "bfloat16"), ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16"),
    ],
)  # fmt: skip
def test_no_peak_is_guessed(kind: str, dtype: str) -> None:
    """An unknown device, a slice of one, and a format without units have a reason instead."""
    peak = peak_of(kind, dtype)
    assert peak.flops is None
    assert peak.reason
    assert kind in peak.reason


def test_mfu_is_the_share_of_all_devices(make_args: Callable[..., Any]) -> None:
    """Real tokens a second times their operations, over the peak of both devices; the first step does not count."""
    config = config_from_hf({"model_type": "gemma", **SIZES})
    metrics = ThroughputMetrics(config, make_args(), [8], T4)
    raw = [{"train_step": n, "tokens_per_second": rate, "seconds": 2.0} for n, rate in enumerate((1.0, 5e7, 7e7), 1)]
    rows = [metrics.measured(row) for row in raw]
    per_token = flops_per_token(config, (4.5, 4.5))
    assert [row.get("warm_up") for row in rows] == [True, None, None]
    assert rows[1]["mfu"] == round(5e7 * per_token / (2 * 8.1e12), 4)
    report = metrics.report(rows)
    assert report["mfu"] == round(6e7 * per_token / (2 * 8.1e12), 4)
    assert (report["peak_flops_per_device"], report["model_flops_per_token"]) == (8.1e12, round(per_token))
    assert report["step_seconds"] == {"p50": 2.0, "p90": 2.0, "p99": 2.0, "n_train_steps": 2, "warm_up": [2.0]}


def test_memory_is_the_fullest_device_s(monkeypatch: pytest.MonkeyPatch, make_args: Callable[..., Any]) -> None:
    """If the platform reports memory, rows and report have the largest figure of all devices."""

    class Device:
        def __init__(self, now: int, peak: int) -> None:
            self._stats = {"bytes_in_use": now, "peak_bytes_in_use": peak}

        def memory_stats(self) -> dict[str, int]:
            return self._stats

    monkeypatch.setattr(throughput.jax, "local_devices", lambda: [Device(3, 9), Device(5, 7)])
    metrics = ThroughputMetrics(config_from_hf({"model_type": "gemma", **SIZES}), make_args(), [8], T4)
    rows = [metrics.measured({"train_step": 1, "tokens_per_second": 1.0, "seconds": 1.0})]
    assert (rows[0]["device_bytes_in_use"], rows[0]["device_peak_bytes"]) == (5, 9)
    assert metrics.report(rows)["device_peak_bytes"] == 9


def test_a_run_on_the_cpu_says_what_it_cannot_measure(
    make_job: Callable[..., Any], train_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Percentiles without the first step; MFU and device memory are null with a reason; the process's memory has a key of its own."""
    job = make_job(num_train_steps=4, save_every_steps=4)
    train_here(job)
    report = json.loads((Path(job["out"]) / "train_report.json").read_text())
    assert report["step_seconds"]["n_train_steps"] == 3
    assert len(report["step_seconds"]["warm_up"]) == 1
    assert {name for name in report["not_applicable"] if report[name] is None} == set(report["not_applicable"])
    no_eval = {"final_eval_loss", "exported_eval_loss"}  # no rows are withheld
    assert set(report["not_applicable"]) == {"mfu", "device_peak_bytes", "peak_flops_per_device"} | no_eval
    assert report["process_peak_bytes"] > 1 << 20
    assert report["model_flops_per_token"] > 0
    rows = [json.loads(line) for line in (Path(job["out"]) / "metrics.jsonl").read_text().splitlines()]
    assert not any("mfu" in row or "device_peak_bytes" in row for row in rows)


def test_the_peak_is_that_of_the_matmul_format(make_args: Callable[..., Any]) -> None:
    """bfloat16 weights on a T4 are multiplied as float16, and measured against its 65 TFLOP/s."""
    config, args = config_from_hf({"model_type": "gemma", **SIZES}), make_args(dtype="bfloat16")
    assert ThroughputMetrics(config, args, [8], {**T4, "matmul_dtype": "float16"}).peak.flops == 65e12
    assert ThroughputMetrics(config, args, [8], {**T4, "matmul_dtype": "bfloat16"}).peak.flops is None


def test_a_single_step_is_only_warm_up(make_args: Callable[..., Any]) -> None:
    """Then there is no percentile and no MFU, each with a reason."""
    metrics = ThroughputMetrics(config_from_hf({"model_type": "gemma", **SIZES}), make_args(), [8], T4)
    report = metrics.report([metrics.measured({"train_step": 1, "tokens_per_second": 1.0, "seconds": 1.0})])
    assert (report["step_seconds"], report["mfu"]) == (None, None)
    assert {"step_seconds", "mfu"} <= set(report["not_applicable"])
    assert Peak(None, reason="x").source is None
