"""The price: correct arithmetic, estimates that are called estimates, nothing invented."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from engine.commands.plan import price_text
from engine.errors import InputInvalid
from engine.model_config.shapes import KNOWN_CONFIGS, adapter_params, optimizer_bytes, param_count
from engine.preflight import TARGETS, price
from engine.preflight.estimate import estimate
from engine.protocol.device_memory import machine_memory_bytes
from engine.protocol.machines import MACHINES
from engine.runspec.model import ModelSpec, Spec

GIB = 1 << 30
ARGS = {"dtype": "float32", "optimizer": "adamw", "per_device_batch_size": 2, "grad_accum_steps": 1,
        "seq_len": 512, "keep_checkpoints": 2}  # fmt: skip
HANDLERS = {"train_sft": SimpleNamespace(makes="checkpoint"), "score": SimpleNamespace(makes="scorecard")}


@pytest.fixture
def spec(gemma_2b: Any) -> Spec:
    return gemma_2b(ARGS)


def test_gemma_2b_has_2_506_172_416_parameters():
    """The published number, from the shapes."""
    assert param_count(KNOWN_CONFIGS["google/gemma-2b"]) == 2_506_172_416


def test_gemma_7b_has_8_537_680_896_parameters():
    """The same for the model with as many key heads as query heads."""
    assert param_count(KNOWN_CONFIGS["google/gemma-7b"]) == 8_537_680_896


def test_weights_and_optimizer_of_gemma_2b():
    """bf16 weights are 4.67 GiB, f32 9.34; AdamW doubles them, Adafactor adds next to nothing."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    assert _terms({**ARGS, "dtype": "bfloat16"})["weights"] / GIB == pytest.approx(4.67, abs=0.005)
    assert _terms(ARGS)["weights"] / GIB == pytest.approx(9.34, abs=0.005)
    assert optimizer_bytes(config, ARGS) == 2 * 4 * 2_506_172_416
    assert optimizer_bytes(config, {**ARGS, "optimizer": "adafactor"}) < 20 << 20
    masters = {**ARGS, "dtype": "bfloat16", "master_weights": True}
    assert optimizer_bytes(config, masters) == 3 * 4 * 2_506_172_416
    assert optimizer_bytes(config, {**masters, "dtype": "float32"}) == 2 * 4 * 2_506_172_416, (
        "float32 weights are their own master weights"
    )


@pytest.mark.parametrize("key", ["per_device_batch_size", "seq_len", "grad_accum_steps"])
def test_more_work_never_costs_less(key):
    """Doubling the batch, the length or the accumulation raises the peak, whatever the policy."""
    for remat in ("none", "dots", "block", "offload"):
        args = ARGS | {"remat": remat}
        assert sum(_terms(args | {key: int(ARGS[key]) * 2}).values()) > sum(_terms(args).values())


LORA = {"method": "lora", "lora_rank": 16, "lora_merge": False, "lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj",
        "gate_proj", "up_proj", "down_proj"]}  # fmt: skip


def test_adapters_of_gemma_2b():
    """Rank 16 on all projections: 19.6 M parameters, less than half the memory of full training."""
    config = KNOWN_CONFIGS["google/gemma-2b"]
    assert adapter_params(config, {**ARGS, **LORA}) == 19_611_648
    assert sum(_terms({**ARGS, **LORA}).values()) < sum(_terms(ARGS).values()) / 2


def _terms(args):
    """Of the estimate for Gemma 2B on one TPU chip, with layers recomputed unless the arguments say otherwise."""
    found = estimate(KNOWN_CONFIGS["google/gemma-2b"], {"remat": "block", **args}, MACHINES["v5e-1"], None)
    return found.terms


@pytest.mark.parametrize(
    ("target", "fits"),
    [("kaggle-t4", False), ("kaggle-t4x2", False), ("kaggle-p100", False), ("kaggle-v5e-8", True), ("h100", True)],
)
def test_full_precision_adamw_fits_no_small_gpu(spec, target, fits):
    """f32 AdamW takes 37 GiB and more, sharded over the target's devices."""
    cost = price(spec, HANDLERS, target)
    assert cost["memory"]["fits"] is fits
    assert cost["memory"]["device_bytes"] == TARGETS[target].machine.device_bytes
    assert cost["memory"]["devices"] == TARGETS[target].devices


@pytest.mark.parametrize(
    ("allocator", "limit", "share"),
    [
        (None, 14_090_246_553, 0.9),
        ({"kind": "bfc", "preallocate": True, "fraction": 0.3}, 4_696_748_851, 0.3),
        ({"kind": "platform", "preallocate": True, "fraction": 0.3}, 15_655_829_504, None),
    ],
)
def test_the_limit_is_what_the_run_may_take(spec, allocator, limit, share):
    """The allocator's share of the card, not the card: what is between the two does not fit."""
    memory = price(dataclasses.replace(spec, allocator=allocator), HANDLERS, "kaggle-t4x2")["memory"]
    assert (memory["limit_bytes_per_device"], memory["memory_fraction"]) == (limit, share)
    assert memory["device_bytes"] == 15_655_829_504
    tpu = price(dataclasses.replace(spec, allocator=allocator), HANDLERS, "kaggle-v5e-8")["memory"]
    assert (tpu["limit_bytes_per_device"], tpu["memory_fraction"]) == (tpu["device_bytes"], None)


def test_a_smaller_share_makes_auto_choose_another_policy(spec):
    """270M on a T4, 16 rows of 512: everything saved takes 15.4 GiB, so a run recomputes; with less still it does not fit."""
    args = ARGS | {"dtype": "bfloat16", "optimizer": "adafactor", "per_device_batch_size": 16}
    train = dataclasses.replace(spec.steps[0], args=args)
    small = dataclasses.replace(spec, model=ModelSpec("google/gemma-3-270m"), steps=(train,))
    found = {}
    for fraction in (1.0, 0.9, 0.05):
        allocator = {"kind": "bfc", "preallocate": True, "fraction": fraction}
        memory = price(dataclasses.replace(small, allocator=allocator), HANDLERS, "t4")["memory"]
        found[fraction] = (memory["remat"], memory["fits"])
    assert found == {1.0: ("dots", True), 0.9: ("dots", True), 0.05: ("offload", False)}
    declared = dataclasses.replace(small, steps=(dataclasses.replace(train, args=args | {"remat": "none"}),))
    memory = price(declared, HANDLERS, "t4")["memory"]
    assert (memory["remat"], memory["fits"]) == ("none", False)
    assert memory["peak_bytes_per_device"] / GIB == pytest.approx(15.43, rel=0.15)


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
    assert cost["time"]["reason"] == 'no vendor\'s figure is known for a device of the kind "cpu"'
    assert cost["target"] == {
        "name": "cpu",
        "about": "this computer, without an accelerator",
        "retired": None,
        "facts": [],
    }


def test_a_retired_target_is_priced_with_a_warning(spec):
    """The answer names what one gets instead, who says so and when."""
    cost = price(spec, HANDLERS, "kaggle-p100")
    retired = cost["target"]["retired"]
    assert (retired["instead"], retired["read"]) == ("kaggle-t4x2", "2026-11-28")
    assert cost["memory"]["peak_bytes_per_device"]
    assert price_text(cost).splitlines()[0] == (
        "target  nobody gets kaggle-p100 any more; plan for kaggle-t4x2: NvidiaTeslaP100 is retired: the server starts a session "
        "with T4s (kaggle 2.2.5 and kaggle-cli issue 1198 (2026-09), read 2026-11-28)"
    )


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


@pytest.mark.parametrize(
    ("handle", "params"),
    [("google/gemma/transformers/2b/3", 2_506_172_416), ("google/gemma-2/flax/gemma2-2b/1", 2_614_341_888)],
)
def test_a_model_on_kaggle_is_priced_by_its_name_or_its_files(spec, tmp_path, monkeypatch, handle, params):
    """Google's are known by name; what lies in the cache is read there."""
    import json

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("RUNSPEC_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    on_kaggle = dataclasses.replace(spec, model=ModelSpec(handle, kaggle=handle))
    assert price(on_kaggle, HANDLERS)["memory"]["params"] == params
    folder = tmp_path / "models" / handle
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(KNOWN_CONFIGS["google/gemma-3-270m"])))
    assert price(on_kaggle, HANDLERS)["memory"]["params"] == params
    folder.with_name(f"{folder.name}.complete").touch()
    assert price(on_kaggle, HANDLERS)["memory"]["params"] == 268_098_176


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
