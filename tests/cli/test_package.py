"""`package`: what was never run is not packed under its name. A project of light steps, in real processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.campaign.light_project import RUN, SPEC, LightProject

OTHER = "train.seed=43"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> LightProject:
    """A finished run with an override."""
    project = LightProject.fresh(tmp_path_factory.mktemp("package") / "project")
    assert project.do(*RUN, OTHER).code == 0
    return project


@pytest.fixture
def project(done: LightProject, tmp_path: Path) -> LightProject:
    return done.copy(tmp_path / "project")


def _zips(project: LightProject) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.root / "submission").iterdir()}


@pytest.mark.parametrize(
    ("word", "differs"),
    [
        ("train.seed=12345", "differs: train.seed: 43 -> 12345"),
        (None, "differs: train.seed: 43 -> 42"),
        ("notes=a new idea", "differs: notes:  -> a new idea"),
    ],
)
def test_other_arguments_are_another_run(project: LightProject, word: str | None, differs: str) -> None:
    """Seed 12345 was never run; and after a run with an override, the run-spec without it was not run either."""
    before = _zips(project)
    words = [] if word is None else [OTHER, word] if word.startswith("notes") else [word]
    end = project.do("package", RUN[1], *words)
    assert (end.code, end.out) == (4, "")
    assert "error[U135]: the evidence in submission_runs/light_v1/ is of another run" in end.err
    assert differs in end.err
    assert f"runspec package {RUN[1]} {OTHER}" in end.err
    assert _zips(project) == before


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("num_rows: 20", "num_rows: 21", "dataset.num_rows: 20 -> 21"),
        ("files: [", "files: [extra.txt, ", "evidence.files: extra.txt is not in the folder"),
        ("  - {id: summary, uses: result_summary}\n", "  - {id: last, uses: result_summary}\n", "last: a new step"),
    ],
)
def test_an_edited_run_spec_is_another_run(project: LightProject, old: str, new: str, differs: str) -> None:
    (project.root / RUN[1]).write_text(SPEC.replace(old, new))
    end = project.do("package", RUN[1], OTHER)
    assert (end.code, f"differs: {differs}" in end.err) == (4, True), end.err


def test_an_edited_eval_set_is_another_run(project: LightProject) -> None:
    items = project.root / "evalsets" / "items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:-1]))
    end = project.do("package", RUN[1], OTHER)
    assert (end.code, "eval_set: " in end.err) == (4, True), end.err


@pytest.mark.parametrize("change", ["nothing", "a comment", "no store"])
def test_the_same_run_is_packed_again_to_the_same_bytes(project: LightProject, change: str) -> None:
    """What is declared is the same after an edited comment, and in a new clone, which has no store."""
    before = _zips(project)
    shutil.rmtree(project.root / "submission")
    if change == "a comment":
        (project.root / RUN[1]).write_text(SPEC + "# remember the milk\n")
    if change == "no store":
        shutil.rmtree(project.root / ".runspec")
    assert project.do("package", RUN[1], OTHER).code == 0
    assert _zips(project) == before
