"""``verify --rerun`` from the command line, with light steps: a part of a finished run, run again in this process."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import extras
from engine.artifacts.manifest import manifest_text
from engine.canonical import digest_json, digest_tree
from engine.data import build
from engine.errors import Interrupted
from engine.steps import build_dataset, registry
from tests.campaign.light_project import RUN, LightProject
from tests.campaign.light_steps import light_generate, light_train
from tests.evidence.forger import files_of, parsed, redone, written

EVIDENCE = "submission_runs/light_v1"
Do = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> LightProject:
    """A project whose run is done."""
    project = LightProject.fresh(tmp_path_factory.mktemp("rerun") / "project")
    done = project.do(*RUN)
    assert done.code == 0, done.err
    return project


@pytest.fixture
def root(finished: LightProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder; temporary folders are made beside it."""
    project = finished.copy(tmp_path / "project")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(project.root)
    return project.root


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``light(generate=function)``: the two steps that need the trainer, by light functions or those given."""

    def install(**functions: Any) -> None:
        for kind, function in {"train_sft": light_train, "generate": light_generate, **functions}.items():
            handler: Any = registry.HANDLERS[kind]
            light_one = dataclasses.replace(handler, function=function, needs_extra=None)
            monkeypatch.setitem(registry.HANDLERS, kind, light_one)
        registry._discover.cache_clear()

    install()
    yield install
    registry._discover.cache_clear()


def _forge(change: Callable[[dict[str, bytes], Any], None]) -> None:
    """Change the evidence in place, and do everything else again that can be computed."""
    folder = Path(EVIDENCE)
    files = files_of(folder)
    record = parsed(files, "run_record.json")
    change(files, record)
    for name, data in redone(files, record).items():
        (folder / name).write_bytes(data)


def _another_answer(files: dict[str, bytes], _: Any) -> None:
    rows = parsed(files, "predictions.jsonl")
    rows[2]["text"] = "well\n" + rows[2]["text"]
    files["predictions.jsonl"] = written("predictions.jsonl", rows)


def _checks(document: Any) -> dict[str, str]:
    return {check["id"]: check["status"] for check in document["checks"]}


def test_it_is_run_again_and_equal(root: Path, light: Any, runspec: Do) -> None:
    """Level L3; neither project nor evidence is touched, and nothing remains in the folder for temporary files."""
    before = digest_tree(root)
    done = runspec("verify", "runspecs/spec.yaml", "--rerun", "3", "--rerun-steps", "2", "--seed", "7", "--json")
    assert done.code == 0, done.out + done.err
    document = done.document
    assert (document["ok"], document["trust_level"]) == (True, "L3")
    rerun = document["rerun"]
    assert rerun["seed"] == 7
    assert rerun["platform"].endswith(", cpu")
    assert "seed 7: 3 of 8 items" in done.err
    assert (len(rerun["items"]["run_again"]), rerun["items"]["n_equal"], rerun["items"]["differences"]) == (3, 3, [])
    assert (rerun["train_steps"]["run_again"], rerun["train_steps"]["n_equal"]) == ([1, 2], 2)
    assert "[1/2] predict · generate" in done.err
    assert digest_tree(root) == before
    assert list((root.parent / "temporary").iterdir()) == []


def test_one_forged_answer_is_found_by_the_rerun_and_by_nothing_else(root: Path, light: Any, runspec: Do) -> None:
    """Everything that follows from the text was done again: only the model itself tells."""
    _forge(_another_answer)
    alone = runspec("verify", EVIDENCE, "--json").document
    assert (alone["ok"], alone["trust_level"], alone["rerun"]) == (True, "L0", None)
    done = runspec("verify", EVIDENCE, "--rerun", "8", "--json")
    assert done.code == 5
    document = done.document
    assert [id_ for id_, status in _checks(document).items() if status == "fail"] == ["V29", "V24"]
    [found] = document["rerun"]["items"]["differences"]
    assert (found["of"], found["field"]) == ("quick-003", "text")
    assert found["recorded"] == "well\n" + found["again"]
    lines = runspec("verify", EVIDENCE, "--rerun", "8").out.splitlines()
    [where] = [index for index, line in enumerate(lines) if line.startswith("another result when run again")]
    assert lines[where + 1].startswith(r"  quick-003: text 'well\nso\nAnswer:")
    assert "NOT verified: a check failed, so it proves nothing" in "\n".join(lines)


def test_a_forged_loss_is_found_by_the_first_train_steps(root: Path, light: Any, runspec: Do) -> None:
    """Here too nothing else tells."""

    def better(files: dict[str, bytes], _: Any) -> None:
        rows = parsed(files, "metrics.jsonl")
        rows[1]["loss"] = 0.4
        files["metrics.jsonl"] = written("metrics.jsonl", rows)

    _forge(better)
    assert runspec("verify", EVIDENCE).code == 0
    assert runspec("verify", EVIDENCE, "--rerun", "8", "--rerun-steps", "1", "--quiet").code == 0
    done = runspec("verify", EVIDENCE, "--rerun-steps", "3", "--json", "--quiet")
    assert (done.code, done.err) == (5, "")
    assert done.document["rerun"]["train_steps"]["differences"] == [
        {"of": "train step 2", "field": "loss", "recorded": 0.4, "again": 0.5}
    ]


def test_another_platform_is_said(root: Path, light: Any, runspec: Do) -> None:
    """The record names another version of jax: a difference proves nothing, so it is counted and nobody is accused."""

    def elsewhere(files: dict[str, bytes], record: Any) -> None:
        _another_answer(files, record)
        report = parsed(files, "train_report.json")
        report["libraries"]["jax"] = "0.0.1"
        files["train_report.json"] = written("train_report.json", report)
        record["environment"]["libraries"]["jax"] = "0.0.1"
        for step in record["steps"]:
            if step["uses"] == "train_sft":
                step["facts"] = report
            if "jax" in step["ingredients"]["environment"]:
                step["ingredients"]["environment"]["jax"] = "0.0.1"

    _forge(elsewhere)
    done = runspec("verify", EVIDENCE, "--rerun", "8", "--checkpoint", str(_model(root)), "--json")
    assert done.code == 0, done.out
    assert (done.document["trust_level"], done.document["rerun"]["items"]["n_equal"]) == ("L0", 7)
    [check] = [check for check in done.document["checks"] if check["id"] == "V29"]
    assert check["status"] == "n/a"
    assert check["detail"].startswith("another platform (jax 0.0.1 recorded, ")
    assert "so not exact: 7 of 8 are equal" in check["detail"]


def _model(root: Path) -> Path:
    [model] = root.glob(".runspec/store/checkpoint/*/model")
    return model


def test_the_model_is_found_by_its_digest(root: Path, light: Any, runspec: Do) -> None:
    """Under another fingerprint too, as where a stranger made it with other libraries."""
    [manifest] = root.glob(".runspec/store/checkpoint/*/artifact.json")
    values = json.loads(manifest.read_text())
    values["ingredients"]["environment"]["jax"] = "0.0.1"
    values["fingerprint"] = digest_json(values["ingredients"])
    del values["manifest_sha256"]
    manifest.write_text(manifest_text(values))
    manifest.parent.rename(manifest.parent.parent / values["fingerprint"][:32])
    assert runspec("verify", EVIDENCE, "--rerun", "1").code == 0


def test_a_stranger_names_the_model(root: Path, light: Any, runspec: Do, tmp_path: Path, monkeypatch: Any) -> None:
    """With the zip alone there is none: U159 says what to do; with its folder it is run again."""
    model = shutil.copytree(_model(root), tmp_path / "downloaded")
    [package] = root.glob("submission/*.zip")
    (tmp_path / "elsewhere").mkdir()
    archive = shutil.copy(package, tmp_path / "elsewhere")
    shutil.rmtree(root)
    monkeypatch.chdir(tmp_path / "elsewhere")
    missing = runspec("verify", archive, "--rerun", "2")
    assert missing.code == 2
    assert "error[U159]: the model of this evidence is not here: this folder belongs to no project" in missing.err
    assert "--checkpoint FOLDER" in missing.err
    done = runspec("verify", archive, "--rerun", "2", "--checkpoint", str(model), "--json")
    assert (done.code, done.document["trust_level"]) == (0, "L3")
    assert list((tmp_path / "elsewhere").iterdir()) == [Path(archive)]


def test_a_store_without_the_model(root: Path, light: Any, runspec: Do) -> None:
    """It is named, with the digest that was looked for."""
    shutil.rmtree(root / ".runspec" / "store" / "checkpoint")
    done = runspec("verify", "runspecs/spec.yaml", "--rerun", "2")
    assert (done.code, "store has none of its digest, " in done.err) == (2, True)


def test_another_model_is_refused(root: Path, light: Any, runspec: Do, tmp_path: Path) -> None:
    """One byte more, or no folder at all."""
    model = shutil.copytree(_model(root), tmp_path / "other")
    (model / "config.json").write_text("{}")
    done = runspec("verify", EVIDENCE, "--rerun", "2", "--checkpoint", str(model))
    assert (done.code, "other is not the model of this evidence: it has the digest" in done.err) == (2, True)
    done = runspec("verify", EVIDENCE, "--rerun", "2", "--checkpoint", "nowhere")
    assert (done.code, "error[U159]: nowhere is not a folder" in done.err) == (2, True)


def test_a_model_that_was_changed_in_the_store_is_refused(root: Path, light: Any, runspec: Do) -> None:
    """Its manifest and its size are as they were."""
    config = _model(root) / "config.json"
    config.write_bytes(config.read_bytes().swapcase())
    done = runspec("verify", EVIDENCE, "--rerun", "2")
    assert (done.code, "was changed since it was exported" in done.err) == (2, True)


def test_a_dataset_that_is_not_in_the_store_is_built_again(
    root: Path, light: Any, runspec: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its builder; where its rows are other ones than recorded it is U160, not a difference of losses."""
    shutil.rmtree(root / ".runspec" / "store" / "dataset")
    done = runspec("verify", EVIDENCE, "--rerun-steps", "2")
    assert (done.code, "dataset · build_dataset" in done.err) == (0, True)
    monkeypatch.setattr(
        build_dataset, "build", lambda name, *, seed, num_rows: build(name, seed=seed + 1, num_rows=num_rows)
    )
    done = runspec("verify", EVIDENCE, "--rerun-steps", "2")
    assert (done.code, "builds other rows here than the evidence records" in done.err) == (2, True)


def test_the_seed_decides_which_items_and_is_another_one_each_time(root: Path, light: Any, runspec: Do) -> None:
    """Printed, and repeatable."""

    def asked(*words: str) -> tuple[int, list[str]]:
        rerun = runspec("verify", EVIDENCE, "--rerun", "3", "--json", *words).document["rerun"]
        return rerun["seed"], rerun["items"]["run_again"]

    first, second = asked(), asked()
    assert first[0] != second[0]
    assert asked("--seed", str(first[0])) == first


def test_where_a_check_failed_nothing_is_run_again(root: Path, light: Any, runspec: Do) -> None:
    """Hours of work could not mend it."""

    def never(_: Any) -> Any:
        raise AssertionError("a step was run")

    light(generate=never)
    (root / EVIDENCE / "metrics.jsonl").write_text("{}\n")
    done = runspec("verify", EVIDENCE, "--rerun", "3")
    assert (done.code, "not run again: a check failed" in done.out) == (5, True)
    assert runspec("verify", EVIDENCE, "--rerun", "3", "--json").document["rerun"] is None


def test_ctrl_c_stops_it_and_leaves_nothing(root: Path, light: Any, runspec: Do) -> None:
    """Exit code 130, as of a run; the folder of the re-run is gone."""

    def interrupted(ctx: Any) -> Any:
        (ctx.out / "half.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGINT)
        assert ctx.stopping()
        raise Interrupted("R203", "stopped after 1 of 3 answers; they are kept")

    light(generate=interrupted)
    before = digest_tree(root)
    done = runspec("verify", EVIDENCE, "--rerun", "3")
    assert done.code == 130
    assert "error[U161]: the re-run was stopped: nothing of it is kept" in done.err
    assert digest_tree(root) == before
    assert list((root.parent / "temporary").iterdir()) == []


def test_the_missing_extra_is_named(root: Path, light: Any, runspec: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    """X101 with what to install, before anything is run."""
    handler: Any = registry.HANDLERS["generate"]
    monkeypatch.setitem(registry.HANDLERS, "generate", dataclasses.replace(handler, needs_extra="train"))
    registry._discover.cache_clear()
    monkeypatch.setattr(extras, "EXTRAS", {**extras.EXTRAS, "train": ("no_such_module",)})
    done = runspec("verify", EVIDENCE, "--rerun", "3")
    assert done.code == 2
    assert 'error[X101]: to run step "predict" (generate) again, verify --rerun needs the extra "train"' in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rerun", "0"), "U158]: --rerun is 0, and must be 1 or more"),
        (("--rerun-steps", "-1"), "U103]: runspec verify: --rerun-steps: -1 is not allowed, it must be at least 0"),
        (("--rerun", "1", "--seed", "-1"), "U103]: runspec verify: --seed: -1 is not allowed, it must be at least 0"),
        (("--seed", "1"), "U158]: --seed is for the items of --rerun K"),
        (("--rerun-steps", "1", "--checkpoint", "x"), "U158]: --checkpoint is for the items of --rerun K"),
    ],
)
def test_what_cannot_be_asked_for(root: Path, light: Any, runspec: Do, words: tuple[str, ...], message: str) -> None:
    """U158, or U103 for a number that it cannot be, before anything is read."""
    done = runspec("verify", EVIDENCE, *words)
    assert (done.code, f"error[{message}" in done.err) == (2, True)
