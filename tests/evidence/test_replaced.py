"""A second run under one run_version says what it replaces and what differs, and the earlier evidence is kept whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import Journal, RunRecord
from engine.artifacts.store import Store
from engine.canonical import digest_tree
from engine.errors import InputInvalid, RunFailed, Where
from engine.evidence import verify
from engine.pipeline.finish import Finish, finish_run
from engine.pipeline.replaced import Replaced, keep_replaced, listed, will_replace
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec
from engine.steps.registry import handlers
from tests.evidence.conftest import build

SECOND = {"train": {"seed": 43, "num_train_steps": 4}}
FIRST = {"train": {"seed": 42, "num_train_steps": 4}}


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """The run-spec of the hand-made records."""
    steps = (StepSpec("train", "train_sft", SECOND["train"], SECOND["train"], None, Where("toy.yaml", 1, 1)),)
    return Spec(
        version=1, run_version="toy_v1", notes="", device="auto", model=ModelSpec("toy/model"), dataset=DatasetSpec(name="toy"),
        eval_set="items.jsonl", steps=steps, evidence=EvidenceSpec("submission_runs/toy_v1"), package=PackageSpec("toy"),
        path=tmp_path / "toy.yaml", root=tmp_path, data=b"toy", digest="0" * 64,
    )  # fmt: skip


@pytest.fixture
def finish(spec: Spec, tmp_path: Path) -> Callable[[RunRecord], Finish]:
    """Evidence, package and verification of a record, as `run` does it."""
    journal = Journal(tmp_path / ".runspec" / "runs" / "toy_v1" / "journal.jsonl")
    return lambda record: finish_run(spec, record, journal, lambda _: None)


def test_the_earlier_evidence_and_its_zip_are_kept_and_verify(finish: Any, tmp_path: Path) -> None:
    """Same name, same day, same commit: the zip is replaced too, and the copies are byte for byte the old ones."""
    first = finish(build(tmp_path, FIRST))
    assert first.replaced is None
    before, old_zip = digest_tree(first.evidence_dir), first.package.read_bytes()
    second = finish(build(tmp_path, SECOND))
    assert second.package == first.package
    assert second.package.read_bytes() != old_zip
    replaced = second.replaced
    assert replaced.differs == ("train.seed: 42 -> 43",)
    assert replaced.finished_at == "2026-01-02T03:04:05Z"
    kept = tmp_path / replaced.kept
    assert digest_tree(kept / "evidence") == before
    assert (kept / "package" / first.package.name).read_bytes() == old_zip
    assert verify(kept / "evidence").ok
    assert replaced.text() == (
        f"replaced the evidence of 2026-01-02T03:04:05Z, which is kept in {replaced.kept}/\ndiffers: train.seed: 42 -> 43"
    )


def test_every_replaced_one_is_kept_and_none_twice(finish: Any, spec: Spec, tmp_path: Path) -> None:
    """42, 43, 42 again: both are kept; the same record again replaces nothing."""
    kept = [finish(build(tmp_path, args)).replaced for args in (FIRST, SECOND, FIRST, FIRST)]
    folder = tmp_path / ".runspec" / "runs" / "toy_v1" / "replaced"
    assert kept[0] is None
    assert kept[3] is None
    assert [replaced.differs for replaced in kept[1:3]] == [("train.seed: 42 -> 43",), ("train.seed: 43 -> 42",)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(replaced.kept).name for replaced in kept[1:3])
    assert not list((tmp_path / ".runspec" / "staging").glob("replaced-*"))


def test_a_run_says_before_its_first_step_what_it_will_replace(finish: Any, spec: Spec, tmp_path: Path) -> None:
    """Hours before the evidence is replaced; silent where there is none, or another run's."""
    store = Store(tmp_path)
    (tmp_path / "items.jsonl").write_text("{}\n")
    assert will_replace(spec, handlers(), store) is None
    finish(dataclasses.replace(build(tmp_path, FIRST)))
    said = will_replace(spec, handlers(), store)
    assert said is not None
    assert said.startswith(
        "submission_runs/toy_v1/ has the evidence of toy_v1 finished 2026-01-02T03:04:05Z; this run will replace it and keep it "
    )
    assert "\ndiffers: train.seed: 42 -> 43" in said
    assert will_replace(dataclasses.replace(spec, run_version="toy_v2"), handlers(), store) is None


def test_evidence_of_another_run_is_not_touched(finish: Any, spec: Spec, tmp_path: Path) -> None:
    """E108 as before, and no copy."""
    finish(build(tmp_path, FIRST))
    other = dataclasses.replace(spec, run_version="toy_v2")
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(InputInvalid, match="contains the evidence of toy_v1"):
        finish_run(other, dataclasses.replace(build(tmp_path, SECOND), run_version="toy_v2"), journal, lambda _: None)
    assert not (tmp_path / ".runspec" / "runs" / "toy_v2" / "replaced").exists()


def test_what_cannot_be_kept_is_not_replaced(finish: Any, tmp_path: Path) -> None:
    """A file where the copies belong: an error with its path, and the earlier evidence as it was."""
    first = finish(build(tmp_path, FIRST))
    before = digest_tree(first.evidence_dir)
    (tmp_path / ".runspec" / "runs" / "toy_v1" / "replaced").write_text("in the way")
    with pytest.raises(RunFailed, match="replaced"):
        finish(build(tmp_path, SECOND))
    assert digest_tree(first.evidence_dir) == before


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"run_version": "toy_v1"}',
        '{"run_version": "toy_v1", "steps": [7]}',
        '{"run_version": "toy_v1", "steps": [{"ingredients": []}]}',
        "null",
    ],
)
def test_a_damaged_earlier_record_is_no_fault(text: str, finish: Any, spec: Spec, tmp_path: Path) -> None:
    """It is no evidence that could be compared; whether the folder may be written is E108's to say."""
    folder = finish(build(tmp_path, FIRST)).evidence_dir
    (folder / "run_record.json").write_text(text)
    assert will_replace(spec, handlers(), Store(tmp_path)) is None
    assert keep_replaced(spec, build(tmp_path, SECOND), Journal(tmp_path / "j")) is None


def test_differences_are_listed_once_and_not_without_end() -> None:
    """Twelve lines and a count; a repeated run says that nothing declared differs."""
    many = tuple(f"train.key{n}: 1 -> 2" for n in range(14))
    lines = listed(many).split("\n")
    assert (len(lines), lines[0], lines[-1]) == (13, "differs: train.key0: 1 -> 2", "and 2 more differences")
    assert listed(()) == "differs: nothing that is declared: the same arguments, run again"
    assert json.loads(json.dumps(Replaced("t", many, "k").as_json()))["differs"] == list(many)
