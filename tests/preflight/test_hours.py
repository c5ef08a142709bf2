"""The hours of a run on a target: an estimate by the vendor's figures, beside what a session has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from engine.commands.loading import load
from engine.commands.plan import price_text
from engine.preflight import price
from engine.preflight.hours import SHARE_OF_PEAK, train_seconds
from engine.preflight.targets import TARGETS
from engine.protocol.peaks import bandwidth_of, peak_of


@pytest.fixture(scope="module")
def m36(repository: Path):
    """The runbook's run-spec and the handlers."""
    return load(str(repository / "runspecs/m36.yaml"))


@pytest.mark.parametrize("target", ["kaggle-t4x2", "kaggle-v5e-8"])
def test_the_runbooks_run_fits_what_it_names(m36, target: str) -> None:
    """Memory, disk and session hours of the preset."""
    cost = price(*m36, target)
    assert [cost[part]["fits"] for part in ("memory", "time", "disk")] == [True, True, True]


def test_the_terms_are_the_data_sheets(m36) -> None:
    """100 train steps of 2 rows of 512 tokens on each of two T4s at 65 teraflops; 100 items, 256 new tokens, 5 GB each, at 320 GB/s."""
    time = price(*m36, "kaggle-t4x2")["time"]
    params = 2_506_172_416
    predict = next(step for step in m36[0].steps if step.id == "predict")
    batches = -(-100 // predict.args["batch_size"])
    train = 6 * params * 100 * 2 * 2 * 512 / (2 * 65e12) / SHARE_OF_PEAK
    assert time["terms"]["train"] == pytest.approx(train, rel=1e-3)
    assert time["terms"]["predict"] == pytest.approx(batches * 256 * 2 * params / 320e9 / SHARE_OF_PEAK, rel=1e-3)
    assert time["seconds"] == pytest.approx(sum(time["terms"].values()), abs=0.2)
    assert time["seconds_at_peak"] == pytest.approx(time["seconds"] * SHARE_OF_PEAK, abs=0.1)


def test_the_smoke_runs_own_arguments_count_twice(m36) -> None:
    """It is killed and resumed: two train steps of the job of two hundred take a fiftieth, not a hundredth."""
    terms = price(*m36, "kaggle-t4x2")["time"]["terms"]
    assert terms["smoke run"] == pytest.approx(terms["train"] * 2 * 2 / 100, abs=0.1)


def test_more_than_a_session_is_said(m36) -> None:
    """It does not fit, and it is not refused: a run goes over several sessions."""
    spec, handlers = m36
    steps = tuple(
        dataclasses.replace(step, args={**step.args, "num_train_steps": 1_000_000}) if step.id == "train" else step
        for step in spec.steps
    )
    cost = price(dataclasses.replace(spec, steps=steps), handlers, "kaggle-t4x2")
    assert cost["time"]["fits"] is False
    assert "time    does NOT fit: it goes over several sessions: about 329h" in price_text(cost)


def test_adapters_alone_take_two_thirds() -> None:
    """The backward pass has no gradient of the frozen matrices."""
    full, lora = (
        train_seconds(params=10**9, tokens=10**6, devices=1, flops=1e14, is_lora=is_lora) for is_lora in (False, True)
    )
    assert lora == pytest.approx(full * 2 / 3)


TWO_MODELS = ("Tesla P100", "Tesla V100")  # PCIe and SXM2 differ, and the target does not say which


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_machine_but_this_one_has_figures(name: str) -> None:
    """A kind without a row would be priced without a time."""
    machine = TARGETS[name].machine
    is_known = name != "cpu" and machine.kind not in TWO_MODELS
    assert (bandwidth_of(machine.kind) is not None) == is_known
    assert (peak_of(machine.kind, machine.multiplies_bfloat16_in).flops is not None) == is_known


def test_a_slice_of_a_device_has_no_bandwidth() -> None:
    """A MIG slice has a part of it."""
    assert bandwidth_of("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None
