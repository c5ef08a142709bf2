"""Names that are not UTF-8, little memory, a clock that nobody can read: complete runs, or one sentence that says what to do."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.errors import InputInvalid
from engine.scoring.readers import read_predictions
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer
from tests.campaign.light_project import RUN, LightProject
from tests.fixtures.job_samples import JOB_SAMPLES
from tests.fixtures.scratch import other_disk

OTHER_DISK = other_disk()
LATIN = os.fsdecode(b"lat\xe9")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> LightProject:
    return LightProject.fresh(tmp_path_factory.mktemp("light") / "project")


def _record(project: LightProject) -> Any:
    return json.loads((project.root / "submission_runs" / "light_v1" / "run_record.json").read_bytes())


def test_a_run_spec_whose_name_is_not_utf8(fresh: LightProject, tmp_path: Path) -> None:
    """It runs to evidence that verifies; the evidence has the name and a command that can be typed again, in UTF-8."""
    project = fresh.copy(tmp_path / "project")
    spec = f"runspecs/{LATIN}.yaml"
    (project.root / "runspecs" / "spec.yaml").rename(project.root / spec)
    done = project.do("run", spec)
    assert (done.code, "verified" in done.out) == (0, True), done.err
    record = _record(project)
    assert (record["spec_path"], record["command"]) == (
        "runspecs/lat\\xe9.yaml",
        "runspec run $'runspecs/lat\\xe9.yaml'",
    )
    assert project.do("verify", spec).code == 0
    done = project.do("run", spec, os.fsdecode(b"notes=\xff"))
    assert (done.code, "error[U201]: an override is UTF-8 text; this has the byte \\xff" in done.err) == (2, True)


def test_a_folder_whose_name_is_not_utf8(fresh: LightProject, tmp_path: Path) -> None:
    """By its absolute path, as a file manager hands it on."""
    project = fresh.copy(tmp_path / LATIN)
    done = project.do("run", str(project.root / RUN[1]))
    assert (done.code, _record(project)["spec_path"]) == (0, "runspecs/spec.yaml"), done.err


@pytest.mark.usefixtures("light_steps")
@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="permissions do not bind root here")
@pytest.mark.parametrize(
    ("folder", "mode", "error"),
    [
        ("templates", 0o000, "error[R112]: cannot read"),
        ("templates/own.j2", 0o000, "error[R112]: cannot read"),
        ("submission_runs", 0o555, "error[E110]: the evidence cannot be written"),
        ("submission_runs/light_v1", 0o555, "error[E110]: the evidence cannot be written"),
        ("submission", 0o555, "error[P103]: the package cannot be written"),
    ],
)
def test_what_the_end_of_a_run_needs_is_tried_before_its_first_step(
    fresh: LightProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, mode: int, error: str
) -> None:
    """The same error as at the end, before hours of work: no step has run. Mended, the run ends well."""
    project = fresh.copy(tmp_path / "project")
    path = project.root / folder
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.write_text("")
    else:
        path.mkdir()
    before = path.stat().st_mode
    path.chmod(mode)
    done = project.do_without_rights(*RUN)
    assert (done.code, error in done.err) == (1, True), done.err
    assert not list((project.root / ".runspec").glob("store/*/*/artifact.json"))
    path.chmod(before)
    monkeypatch.chdir(project.root)
    assert main([*RUN]) == 0


@pytest.mark.usefixtures("light_steps")
@pytest.mark.skipif(OTHER_DISK is None, reason="one disk")
@pytest.mark.parametrize("linked", [".runspec/runs", ".runspec/runs/light_v1", ".runspec/cache", ".runspec"])
def test_a_part_of_the_state_on_another_disk(
    fresh: LightProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: str
) -> None:
    """The evidence that is replaced is kept there, and nothing is left over."""
    project = fresh.copy(tmp_path / "project")
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as elsewhere:
        link = project.root / linked
        if linked == ".runspec":
            link.rmdir()
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(elsewhere)
        monkeypatch.chdir(project.root)
        assert main([*RUN]) == 0
        assert main([*RUN, "train.num_train_steps=5"]) == 0
        kept = list((project.root / ".runspec" / "runs" / "light_v1" / "replaced").iterdir())
        assert ([path.name[0] != "." for path in kept], project.litter()) == ([True], [])


def test_a_run_says_the_same_at_its_start_and_at_its_end(fresh: LightProject, tmp_path: Path) -> None:
    """Of the evidence that it replaces, which an earlier engine has made, as in a new clone."""
    project = fresh.copy(tmp_path / "project")
    assert project.do(*RUN).code == 0
    path = project.root / "submission_runs" / "light_v1" / "run_record.json"
    record = json.loads(path.read_bytes())
    for step in record["steps"][:2]:
        step["ingredients"]["version"] = 0
    path.write_text(json.dumps(record))
    shutil.rmtree(project.root / ".runspec" / "store")
    done = project.do(*RUN, "predict.max_new_tokens=9")
    assert done.code == 0, done.err
    told = [[line.strip() for line in text.splitlines() if "differs: " in line] for text in (done.err, done.out)]
    assert told[0] == told[1]
    assert len(told[0]) == 3
    assert told[0][0].startswith("differs: dataset: build_dataset of another version of the engine (version: 0 -> ")
    assert told[0][2] == "differs: predict.max_new_tokens: 8 -> 9"


def test_the_trainer_is_not_started_where_its_libraries_cannot_write(tmp_path: Path) -> None:
    """X324 before a training run, and not at its first checkpoint."""
    work = tmp_path / LATIN
    work.mkdir()
    host = Host(work, tmp_path)
    with pytest.raises(InputInvalid) as caught:
        run_trainer(JOB_SAMPLES["train"], host)
    assert (caught.value.code, "lat\\xe9" in str(caught.value)) == ("X324", True)


@pytest.mark.parametrize("name", ["project", LATIN])
def test_a_fault_is_logged_wherever_the_project_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of an internal error has words and paths that are not UTF-8."""

    def fail(words: object) -> None:
        raise ZeroDivisionError(f"in {LATIN}")

    monkeypatch.setattr("engine.cli.answer", fail)
    root = tmp_path / name
    (root / ".runspec").mkdir(parents=True)
    monkeypatch.chdir(root)
    assert main(["plan", f"{LATIN}.yaml"]) == 3
    [log] = (root / ".runspec" / "logs").iterdir()
    assert log.read_text(encoding="utf-8").startswith("command: runspec plan $'lat\\xe9.yaml'\n")


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Reading predictions takes memory for what the file has, not for what it may have."""
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"id": "a", "text": "4"}\n')
    tracemalloc.start()
    read_predictions(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_run_in_little_address_space(fresh: LightProject, tmp_path: Path) -> None:
    """300 MB are enough for all but the training itself."""
    project = fresh.copy(tmp_path / "project")
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (300_000 << 10, before[1]))
        process = project.start(*RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    shutil.rmtree(project.root)


@pytest.mark.parametrize(
    ("error", "unreadable", "message"),
    [
        (MemoryError(), False, "there is not enough memory"),
        (
            OverflowError("timestamp too large to convert to C _PyTime_t"),
            True,
            "this machine's clock says a year after 2262",
        ),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_runspec(
    error: Exception, unreadable: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """R113 with what helps, exit code 1."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.commands.validate.validate", fail)
    if unreadable:
        monkeypatch.setattr("engine.os_errors.time", type("Clock", (), {"time": staticmethod(fail)}))
    code = main(["validate", "x.yaml"])
    assert (code, f"error[R113]: {message}" in capsys.readouterr().err) == (1, True)


def test_another_overflow_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the clock can be read, an OverflowError is the engine's own."""

    def fail(*_: object) -> None:
        raise OverflowError

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".runspec").mkdir()
    monkeypatch.setattr("engine.commands.validate.validate", fail)
    assert main(["validate", "x.yaml"]) == 3


def test_an_override_that_no_step_depends_on_is_in_the_evidence(fresh: LightProject, tmp_path: Path) -> None:
    """Notes, say: nothing runs again, and the record has a command that gives them."""
    project = fresh.copy(tmp_path / "project")
    assert project.do("run", RUN[1]).code == 0
    done = project.do("run", RUN[1], "notes=second thoughts")
    assert (done.code, "0 steps ran" in done.err or "nothing to do" in done.err) == (0, True), done.err
    manifest = json.loads((project.root / "submission_runs" / "light_v1" / "run_manifest.json").read_text())
    assert manifest["notes"] == "second thoughts"
    assert manifest["command"] == "runspec run runspecs/spec.yaml 'notes=second thoughts'"
    assert project.do("verify", RUN[1]).code == 0
