"""The price: correct arithmetic, estimates that are called estimates, nothing invented."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import InputInvalid, Where
from engine.preflight import TARGETS, price
from engine.preflight.analytic import (
    KNOWN_CONFIGS,
    adapter_params,
    checkpoint_size,
    disk_bytes,
    optimizer_bytes,
    param_count,
    training_bytes,
)
from engine.preflight.targets import machine_memory_bytes
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec

GIB = 1 << 30
ARGS = {"dtype": "float32", "optimizer": "adamw", "per_device_batch_size": 2, "grad_accum_steps": 1,
        "seq_len": 512, "keep_checkpoints": 2}  # fmt: skip
HANDLERS = {"train_sft": SimpleNamespace(makes="checkpoint"), "score": SimpleNamespace(makes="scorecard")}


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    train = StepSpec("train", "train_sft", ARGS, ARGS, None, Where("s.yaml", 1, 1))
    return Spec(
        version=1, run_version="v", notes="", device="auto", model=ModelSpec("google/gemma-2b"),
        dataset=DatasetSpec(name="d"), eval_set="e.jsonl", steps=(train,),
        evidence=EvidenceSpec("submission_runs/v"), package=PackageSpec("v"), path=tmp_path / "s.yaml",
        root=tmp_path, text="", digest="",
    )  # fmt: skip


def test_gemma_2b_has_2_506_172_416_parameters():
    """The published number, from the shapes."""
    assert param_count(KNOWN_CONFIGS["google/gemma-2b"]) == 2_506_172_416


def test_gemma_7b_has_8_537_680_896_parameters():
    """The same for the model with as many key heads as query heads."""
    assert param_count(KNOWN_CONFIGS["google/gemma-7b"]) == 8_537_680_896


def test_weights_and_optimizer_of_gemma_2b():
    """bf16 weights are 4.67 GiB, f32 9.34; AdamW doubles them, Adafactor adds next to nothing."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    assert training_bytes(config, {**ARGS, "dtype": "bfloat16"})["weights"] / GIB == pytest.approx(4.67, abs=0.005)
    assert training_bytes(config, ARGS)["weights"] / GIB == pytest.approx(9.34, abs=0.005)
    assert optimizer_bytes(config, ARGS) == 2 * 4 * 2_506_172_416
    assert optimizer_bytes(config, {**ARGS, "optimizer": "adafactor"}) < 20 << 20
    masters = {**ARGS, "dtype": "bfloat16", "master_weights": True}
    assert optimizer_bytes(config, masters) == 3 * 4 * 2_506_172_416
    assert optimizer_bytes(config, {**masters, "dtype": "float32"}) == 2 * 4 * 2_506_172_416, (
        "float32 weights are their own master weights"
    )


BF16 = {"dtype": "bfloat16", "optimizer": "adafactor", "per_device_batch_size": 1}
IN_BACKWARD = {**BF16, "update": "in_backward"}
# benchmarks/memory.py: devices, arguments, GiB per device as the compiler of the machine says.
COMPILED = {
    "v5e-8": (8, BF16, 1.30),
    "v5e-8, f32 AdamW": (8, {"per_device_batch_size": 1}, 4.93),
    "v5e-8, 2048 tokens": (8, {**BF16, "seq_len": 2048}, 1.82),
    "v5e-8, 8192 tokens": (8, {**BF16, "seq_len": 8192}, 3.44),
    "v5e": (1, BF16, 9.41),
    "v5e, update in the backward pass": (1, IN_BACKWARD, 4.92),
    "T4": (1, BF16, 9.72),
    "T4, update in the backward pass": (1, IN_BACKWARD, 5.35),
    "T4 x2": (2, BF16, 4.99),
}


@pytest.mark.parametrize("step", COMPILED)
def test_the_estimate_is_near_what_the_compilers_say(step):
    """Within 15 % for full training of Gemma 2B, sharded or not."""
    devices, args, measured = COMPILED[step]
    terms = training_bytes(KNOWN_CONFIGS["google/gemma-2b"], {**ARGS, **args}, devices)
    assert sum(terms.values()) / GIB == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("key", ["per_device_batch_size", "seq_len", "grad_accum_steps"])
def test_more_work_never_costs_less(key):
    """Doubling the batch, the length or the accumulation raises the peak."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    more = {**ARGS, key: int(ARGS[key]) * 2}
    assert sum(training_bytes(config, more).values()) > sum(training_bytes(config, ARGS).values())


LORA = {"method": "lora", "lora_rank": 16, "lora_merge": False, "lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj"]}  # fmt: skip


def test_adapters_of_gemma_2b():
    """Rank 16 on all projections: 19.6 M parameters, less than half the memory of full training, checkpoints of megabytes."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    assert adapter_params(config, {**ARGS, **LORA}) == 19_611_648
    assert sum(training_bytes(config, {**ARGS, **LORA}).values()) < sum(training_bytes(config, ARGS).values()) / 2
    assert disk_bytes(config, {**ARGS, **LORA}) == {
        "checkpoints": 3 * checkpoint_size(12 * 19_611_648),
        "model": 4 * 19_611_648,
    }


def test_disk_counts_the_checkpoint_being_written():
    """keep_checkpoints + 1 checkpoints and the exported model."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    weights = 4 * param_count(config)
    assert disk_bytes(config, ARGS) == {"checkpoints": 3 * checkpoint_size(3 * weights), "model": weights}
    more = {**ARGS, "num_train_steps": 100, "keep_every_steps": 25, "keep_best": 2}
    assert disk_bytes(config, more) == {"checkpoints": (3 + 4 + 2) * checkpoint_size(3 * weights), "model": weights}


@pytest.mark.parametrize(
    ("target", "fits"),
    [("kaggle-t4", False), ("kaggle-t4x2", False), ("kaggle-p100", False), ("kaggle-v5e-8", True)],
)
def test_full_precision_adamw_fits_eight_16_gb_devices_only(spec, target, fits):
    """f32 AdamW takes 37 GiB and more, sharded over the target's devices."""
    cost = price(spec, HANDLERS, target)
    assert cost["memory"]["fits"] is fits
    assert cost["memory"]["limit_bytes_per_device"] == TARGETS[target].limit_bytes_per_device
    assert cost["memory"]["devices"] == TARGETS[target].devices


@pytest.mark.parametrize(("mesh", "fits"), [({}, True), ({"fsdp": 2}, True), ({"tp": 2}, True), ({"fsdp": 4}, False),
                                            ({"fsdp": 2, "tp": 2}, False), ({"tp": 3}, False)])  # fmt: skip
def test_a_mesh_that_does_not_match_the_devices_of_a_named_target(spec, mesh, fits):
    """U134, where the trainer would say T164; this machine's devices are not known without JAX."""
    args = {**ARGS, "mesh": mesh}
    train = dataclasses.replace(spec.steps[0], args=args)
    spec = dataclasses.replace(spec, steps=(train,))
    assert price(spec, HANDLERS)["memory"]["peak_bytes_per_device"]
    with contextlib.nullcontext() if fits else pytest.raises(InputInvalid, match="kaggle-t4x2 has 2 devices"):
        price(spec, HANDLERS, "kaggle-t4x2")


def test_the_shape_of_the_price(spec):
    """The keys that plan --json promises, the source named, the time unknown with its reason."""
    cost = price(spec, HANDLERS)
    assert {"target", "devices", "peak_bytes_per_device", "limit_bytes_per_device", "fits", "source"} <= set(
        cost["memory"]
    )
    assert cost["memory"]["source"] == cost["disk"]["source"] == "analytic"
    assert cost["memory"]["target"] == "cpu"
    assert cost["memory"]["limit_bytes_per_device"] == machine_memory_bytes()
    assert cost["memory"]["peak_bytes_per_device"] == sum(cost["memory"]["terms"].values())
    assert cost["time"]["seconds"] is None
    assert cost["time"]["reason"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ModelSpec("someone/unheard-of"), "the shapes of someone/unheard-of are not known here"),
        (ModelSpec("x", path="nowhere"), "the shapes of x are not known here"),
        (
            ModelSpec("x", init="random", config={"hidden_size": 8}),
            "does not give intermediate_size",
        ),
    ],
)
def test_what_is_not_known_is_null_with_a_reason(spec, model, reason):
    """No figure is invented for a model whose shapes are not known."""
    cost = price(dataclasses.replace(spec, model=model), HANDLERS)
    assert cost["memory"]["peak_bytes_per_device"] is None
    assert cost["memory"]["fits"] is None
    assert cost["disk"]["needed_bytes"] is None
    assert reason in cost["memory"]["reason"]


def test_a_local_model_is_priced_by_its_config(spec, tmp_path):
    """The config.json of a local folder gives the shapes."""
    import json

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(dict(KNOWN_CONFIGS["google/gemma-2b"])))
    cost = price(dataclasses.replace(spec, model=ModelSpec("x", path="model")), HANDLERS)
    assert cost["memory"]["params"] == 2_506_172_416


def test_a_spec_that_trains_nothing_has_no_memory_figure(spec):
    """A spec that only scores has no training step to price."""
    step = dataclasses.replace(spec.steps[0], uses="score")
    assert price(dataclasses.replace(spec, steps=(step,)), HANDLERS)["memory"]["reason"] == "no step trains a model"


def test_an_unknown_target_is_an_error_with_a_suggestion(spec):
    """A typo in --target is caught."""
    with pytest.raises(InputInvalid) as caught:
        price(spec, HANDLERS, "kaggle-t4x3")
    assert caught.value.diagnostics[0].code == "U116"
    assert caught.value.hint == 'did you mean "kaggle-t4x2"?'


def test_a_container_limit_counts(monkeypatch, tmp_path):
    """Memory is the smaller of the machine's and the container's; `max` means no limit."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("engine.preflight.targets.CGROUP_LIMIT", limit)
    total = machine_memory_bytes()
    limit.write_text("1048576\n")
    assert machine_memory_bytes() == 1_048_576
    limit.write_text("max\n")
    assert machine_memory_bytes() == total
