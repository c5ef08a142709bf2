"""Whether a result must be the same here to the last bit: what the record says, beside this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.store import Artifact
from engine.errors import InputInvalid
from engine.pipeline import provenance
from engine.pipeline.provenance import machine_facts
from engine.pipeline.rerun.machine import elsewhere
from engine.pipeline.rerun.material import check_base, check_builder, check_kaggle_base

HANDLER: Any = SimpleNamespace(version=3, environment=lambda: {"jax": "2"})
TRAINED = {"platform": "gpu", "device_kind": "H100", "devices": ["cuda:0"], "topology": {"processes": 1}}


def _step(uses: str, facts: dict[str, Any], jax: str = "2", version: int = 3) -> StepRecord:
    ingredients = {"version": version, "environment": {"jax": jax}}
    artifact = Artifact("t", uses, "f", "d", Path(), {}, facts, "", "", ingredients)
    return StepRecord(uses, uses, {}, {}, artifact)


def _record(*steps: StepRecord, **environment: Any) -> RunRecord:
    return RunRecord(
        run_version="v", notes="", spec_path="", spec_bytes=b"", spec_digest="", overrides={}, command="", model_id="",
        model_revision=None, dataset="", eval_set="", eval_set_bytes=b"", device="auto", environment={**machine_facts(), **environment},
        started_at="", finished_at="", steps=steps,
    )  # fmt: skip


def _found(step: StepRecord, again: dict[str, Any], *others: StepRecord, **environment: Any) -> list[str]:
    return elsewhere(_record(*others, step, **environment), step, HANDLER, again)


CPU = {"platform": "cpu"}


def test_the_same_machine_and_libraries_are_no_difference() -> None:
    """As here."""
    assert _found(_step("generate", CPU), CPU) == []


@pytest.mark.parametrize(
    ("step", "environment", "phrase"),
    [
        (_step("generate", CPU, jax="1"), {}, "jax 1 recorded, 2 here"),
        (_step("generate", CPU, version=2), {}, "generate 2 recorded, 3 here"),
        (_step("generate", {"platform": "gpu", "device_kind": "H100"}), {}, "platform gpu recorded, cpu here"),
        (_step("generate", CPU), {"platform": "Plan9 mips"}, "platform Plan9 mips recorded, "),
        (_step("generate", CPU), {"processor": "Z80"}, "processor Z80 recorded, "),
        (_step("generate", CPU), {"processor": None}, "its processor is not recorded"),
        (_step("generate", CPU), {"cpu_count": 77}, "cpu_count 77 recorded, "),
    ],
)  # fmt: skip
def test_each_difference_is_a_phrase(step: StepRecord, environment: dict[str, Any], phrase: str) -> None:
    """The compiler, the kind of step, the device, the processor and its cores."""
    assert _found(step, CPU, **environment)[0].startswith(phrase)


def test_on_an_accelerator_its_kind_counts_and_the_processor_does_not() -> None:
    """The kind is that of the training run, if that was on the same platform; else nobody has recorded it."""
    step, trained = _step("generate", {"platform": "gpu"}), _step("train_sft", TRAINED)
    assert _found(step, {"platform": "gpu", "device_kind": "H100"}, trained, processor="Z80", cpu_count=77) == []
    assert _found(step, {"platform": "gpu", "device_kind": "T4"}, trained) == ["device_kind H100 recorded, T4 here"]
    on_cpu = _step("train_sft", {**TRAINED, "platform": "cpu"})
    assert _found(step, {"platform": "gpu", "device_kind": "T4"}, on_cpu) == ["its device_kind is not recorded"]


def test_of_a_training_run_the_devices_count() -> None:
    """Their number changes how a batch is sharded."""
    [phrase] = _found(_step("train_sft", TRAINED), {**TRAINED, "devices": ["cuda:0", "cuda:1"]})
    assert phrase == "devices ['cuda:0'] recorded, ['cuda:0', 'cuda:1'] here"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2 avx512f\n", "AMD EPYC (avx512f)"),
        ("model name : Old\nflags : fpu\n", "Old"),
        ("CPU part\t: 0xd0c\nFeatures\t: fp asimd sve\n", "0xd0c (sve)"),
    ],
)
def test_a_processor_is_its_name_and_its_widest_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    """XLA compiles for the vectors that are there: with AVX alone one loss in twelve is another one, measured."""
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    assert machine_facts()["processor"] == name


def test_a_system_that_does_not_name_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known."""
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    assert machine_facts()["processor"] is None


def test_the_base_of_the_project_must_be_the_recorded_one(tmp_path: Path) -> None:
    """Other weights give other losses, for which nobody is to blame: U160."""
    step = _step("train_sft", TRAINED)
    recorded = replace(step.artifact, ingredients={"spec": {"model": {"content": "0" * 64}}})
    step = replace(step, artifact=recorded)
    spec: Any = SimpleNamespace(model=SimpleNamespace(path="models/mine"), resolve=lambda path: tmp_path / path)
    for what in ("it is not here", "it is another one"):
        with pytest.raises(InputInvalid) as caught:
            check_base(_record(step), step, spec)
        assert caught.value.diagnostics[0].code == "U160"
        assert what in caught.value.diagnostics[0].message
        (tmp_path / "models" / "mine").mkdir(parents=True, exist_ok=True)
    spec.model.path = None
    check_base(_record(step), step, spec)


def test_a_base_of_kaggle_must_have_the_recorded_files() -> None:
    """A version's name is not its bytes; what reads no model of Kaggle has nothing to compare."""
    model: Any = {"owner": "acme", "place": "cache", "files": {"config.json": "a" * 64, "model.safetensors": "b" * 64}}
    step = _step("train_sft", {**TRAINED, "model_kaggle": model})
    check_kaggle_base(_record(step), step, {"model_kaggle": {**model, "place": "mount"}})
    check_kaggle_base(_record(step), _step("train_sft", TRAINED), {})
    other = {"config.json": "a" * 64, "model.safetensors": "c" * 64}
    for files, named in (
        (other, "model.safetensors"),
        ({"config.json": "a" * 64}, "model.safetensors"),
        ({**model["files"], "x": ""}, "x"),
    ):
        with pytest.raises(InputInvalid, match=f"has other files here than the evidence records: {named}\n") as caught:
            check_kaggle_base(_record(step), step, {"model_kaggle": {**model, "files": files}})
        assert caught.value.diagnostics[0].code == "U160"


def test_rows_of_another_packages_step_are_not_made_again() -> None:
    """U160 instead of half a pipeline."""
    check_builder(_step("build_dataset", {}))
    with pytest.raises(InputInvalid) as caught:
        check_builder(_step("filter_rows", {}))
    assert "only build_dataset is run again" in caught.value.diagnostics[0].message
