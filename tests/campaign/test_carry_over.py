"""What a session leaves for the next one, and what is refused: every byte of it counts, and nothing is taken over in part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_file, digest_json, pretty_json, sealed, unsealed
from engine.cli import main
from engine.errors import Interrupted
from engine.pipeline.session.carried import FILE, SEAL
from tests.campaign.light_project import RUN, SPEC, LightProject

pytestmark = pytest.mark.usefixtures("light_steps")

PARTS = {"LIGHT_STEPS_A_SESSION": "3"}
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[LightProject, Path]:
    """A project whose first session has ended after three of four train steps, and what it left."""
    folder = tmp_path_factory.mktemp("carry")
    project = LightProject.fresh(folder / "project")
    done = project.do(*RUN, "--session-out", "../carry", **PARTS)
    assert done.code == 7, done.err
    return project, folder / "carry"


@pytest.fixture
def carry(left: tuple[LightProject, Path], tmp_path: Path) -> Path:
    """A copy of what was left, to spoil."""
    shutil.copytree(left[1], tmp_path / "carry")
    return tmp_path / "carry"


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LightProject:
    """A project with nothing in it, and this process in it."""
    project = LightProject.fresh(tmp_path / "fresh")
    monkeypatch.chdir(project.root)
    return project


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def reseal(carry: Path, edit: Edit) -> None:
    """A session.json that vouches for what was changed in it."""
    values = unsealed((carry / FILE).read_bytes(), SEAL)
    assert values is not None
    edit(values)
    (carry / FILE).write_text(pretty_json(sealed(values, SEAL)))


def test_only_what_is_needed_is_left(left: tuple[LightProject, Path]) -> None:
    """Journal, the finished dataset, one checkpoint with its rows, and the three small files about them."""
    values = json.loads((left[1] / FILE).read_bytes())
    names = [name.replace(name.split("/")[2], "KEY") if name.startswith("store/") else name for name in values["files"]]
    assert sorted(names) == [
        "journal.jsonl", "store/dataset/KEY/artifact.json", "store/dataset/KEY/dataset.jsonl", "store/dataset/KEY/manifest.json",
        "store/dataset/KEY/rows.jsonl", "work/checkpoints/00000003/checkpoint.json", "work/checkpoints/00000003/state",
        "work/metrics.jsonl",
    ]  # fmt: skip
    payload = left[1] / values["payload"]
    assert files_below(payload) == sorted(values["files"])
    assert {name: digest_file(payload / name) for name in values["files"]} == {
        name: row["sha256"] for name, row in values["files"].items()
    }
    assert files_below(left[1]) == sorted(
        [FILE, "next_session.json", *(f"{payload.name}/{n}" for n in values["files"])]
    )
    assert (values["number"], values["state"], values["parent_sha256"]) == (1, "unfinished", None)


def inodes(carry: Path) -> dict[str, int]:
    """Of the files of finished steps, by their names."""
    values = json.loads((carry / FILE).read_bytes())
    return {
        name: (carry / values["payload"] / name).stat().st_ino for name in values["files"] if name.startswith("store/")
    }


def part(project: LightProject, step: str, carry: Path) -> None:
    """A cell of a notebook: some of the steps, and a carry-over."""
    done = project.do(*RUN, "--to", step, "--session-out", str(carry))
    assert done.code == 0, done.err


def test_what_the_carry_over_has_already_is_not_copied_again(tmp_path: Path) -> None:
    """A notebook leaves one after each cell: the model of gigabytes is the same file, and one of the folder's two is gone."""
    project, carry = LightProject.fresh(tmp_path / "project"), tmp_path / "carry"
    part(project, "train", carry)
    first = inodes(carry)
    part(project, "predict", carry)
    assert any("/checkpoint/" in name for name in first)
    assert inodes(carry).items() > first.items()
    assert len(list(carry.glob("carried-*"))) == 1
    second = LightProject.fresh(tmp_path / "second")
    done = second.do(*RUN, "--continue-from", str(carry), "--json")
    assert (done.code, json.loads(done.out)["skipped"]) == (0, ["dataset", "train", "predict"])


def test_a_carry_over_that_was_spoiled_is_made_from_the_store(tmp_path: Path) -> None:
    """Every byte counts, of what is linked too: a file of another digest is copied afresh, a folder that is no carry-over does not matter."""
    project, carry = LightProject.fresh(tmp_path / "project"), tmp_path / "carry"
    part(project, "train", carry)
    values = json.loads((carry / FILE).read_bytes())
    spoiled = next(name for name in values["files"] if "/checkpoint/" in name)
    path = carry / values["payload"] / spoiled
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    part(project, "train", carry)
    values = json.loads((carry / FILE).read_bytes())
    assert (carry / values["payload"] / spoiled).read_bytes() == data
    (carry / FILE).write_text("{}")
    part(project, "train", carry)
    assert json.loads((carry / FILE).read_bytes())["files"].keys() == values["files"].keys()


def test_the_recipe_says_what_is_left_and_what_to_type(left: tuple[LightProject, Path]) -> None:
    """Beside the journal, in the carry-over, and in the evidence, which does not verify."""
    project, carry = left
    recipe = json.loads((carry / "next_session.json").read_bytes())
    assert recipe == json.loads((project.root / ".runspec" / "runs" / "light_v1" / "next_session.json").read_bytes())
    assert [(row["id"], row["state"]) for row in recipe["left"]] == [
        ("train", "at train step 3 of 4"), ("predict", "not begun"), ("score", "not begun"), ("summary", "not begun"),
    ]  # fmt: skip
    assert recipe["here"] == "runspec run runspecs/spec.yaml --session-out ../carry"
    assert recipe["elsewhere"] == "runspec run runspecs/spec.yaml --session-out ../carry --continue-from carry"
    for words in (("submission_runs/light_v1",), ("runspecs/spec.yaml",)):
        done = project.do("verify", *words)
        assert done.code == 4
        assert "error[E112]" in done.err
        assert "left are train (at train step 3 of 4), predict (not begun)" in done.err
    assert project.do("status", "light_v1").out.startswith("light_v1: stopped by the session limit")
    assert project.do("report", "light_v1").code in (2, 4)


def test_a_read_only_folder_is_enough(fresh: LightProject, carry: Path) -> None:
    """Nothing is written into it; and the run ends, without the evidence that said it was incomplete."""
    before = {name: digest_file(carry / name) for name in files_below(carry)}
    for path in (*carry.rglob("*"), carry):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert main([*RUN, "--continue-from", str(carry)]) == 0
    finally:
        for path in (carry, *carry.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert before == {name: digest_file(carry / name) for name in files_below(carry)}
    assert main(["verify", "submission_runs/light_v1"]) == 0
    assert not (fresh.root / "submission_runs" / "light_v1" / "incomplete.json").exists()
    assert fresh.litter() == []


def test_every_file_counts(fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is missing, one with another byte, one that is longer: R116 names it, and the project stays empty."""
    values = json.loads((carry / FILE).read_bytes())
    payload = carry / values["payload"]
    for name in values["files"]:
        data = (payload / name).read_bytes()
        for spoiled in (None, data[:-1] + bytes([data[-1] ^ 1]), data + b"\n"):
            (payload / name).unlink() if spoiled is None else (payload / name).write_bytes(spoiled)
            assert main([*RUN, "--continue-from", str(carry)]) == 2
            said = capsys.readouterr().err
            assert "error[R116]" in said
            assert name in said
            (payload / name).write_bytes(data)
    assert not (fresh.root / ".runspec" / "runs" / "light_v1").exists()
    assert not list((fresh.root / ".runspec").glob("store/*/*"))
    assert fresh.litter() == []


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        (lambda s: s.update(run_version="other_v1"), "R117", "run_version: other_v1 -> light_v1"),
        (lambda s: s.update(engine="0.0.9"), "R117", "engine: 0.0.9 -> "),
        (lambda s: s.update(spec_sha256="0" * 64), "R117", "spec_sha256: 000000000000… -> "),
        (lambda s: s.update(overrides={"train.seed": 7}), "R117", "overrides.train.seed: removed, was 7"),
        (lambda s: s.update(state="finished"), "R117", "is of a run that has finished"),
        (lambda s: s["begun"].update(work_key="0" * 64), "R117", "train"),
        (lambda s: s["begun"]["ingredients"]["environment"].update(jax="0.1"), "R117 work", "train: environment.jax: 0.1 -> "),
        (lambda s: s.update(number=3), "R118", "it says that it is session 3, and its journal has 1"),
        (lambda s: s["sessions"][0].update(first_train_step=2), "R118", "session 1 does not begin after train step 0"),
        (lambda s: s["sessions"][0].update(parent_sha256="f" * 64), "R118", "session 1 did not begin with the checkpoint"),
        (lambda s: s.update(schema_version=2), "R116", "session.json has schema_version 2; this engine reads 1"),
        (lambda s: s.pop("steps"), "R116", "session.json has no steps"),
        (lambda s: s["files"].update({"../../escape": {"sha256": "0" * 64, "bytes": 1}}), "R116", "which is no file of the folder"),
        (lambda s: s["files"].update({"store/dataset/k/x": {"sha256": "0" * 64, "bytes": 1}}), "R116", "store/dataset/k/x is missing"),
    ],
)  # fmt: skip
def test_what_is_refused(
    fresh: LightProject, carry: Path, edit: Edit, code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its code and with what differs, whoever sealed it; nothing of it is in the project afterwards."""

    def change(values: dict[str, Any]) -> None:
        edit(values)
        if code.endswith("work"):
            values["begun"]["work_key"] = digest_json(values["begun"]["ingredients"])

    reseal(carry, change)
    assert main([*RUN, "--continue-from", str(carry)]) == 2
    err = capsys.readouterr().err
    assert f"error[{code.split(maxsplit=1)[0]}]" in err
    assert said in err
    assert not (fresh.root / ".runspec" / "runs" / "light_v1" / "journal.jsonl").exists()
    assert fresh.litter() == []


def test_a_seal_that_does_not_fit_and_no_folder_at_all(
    fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R116, with the name of the file."""
    (carry / FILE).write_bytes((carry / FILE).read_bytes().replace(b'"number": 1', b'"number": 2'))
    assert main([*RUN, "--continue-from", str(carry)]) == 2
    assert "session.json is not what was written" in capsys.readouterr().err
    assert main([*RUN, "--continue-from", str(carry / "absent")]) == 2
    assert "session.json cannot be read: No such file or directory" in capsys.readouterr().err
    assert fresh.litter() == []


def test_another_spec_is_refused(fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever was changed in it."""
    (fresh.root / "runspecs" / "spec.yaml").write_text(SPEC + "notes: another\n")
    assert main([*RUN, "--continue-from", str(carry)]) == 2
    assert "error[R117]: the carry-over is of another run: spec_sha256" in capsys.readouterr().err


def test_another_data_file_is_refused(fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not part of the run-spec's digest, but of what the steps were made from."""
    items = fresh.root / "evalsets" / "items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:7]))
    assert main([*RUN, "--continue-from", str(carry)]) == 2
    assert "error[R117]: the carry-over is of another run: dataset: spec.eval_set" in capsys.readouterr().err


def test_a_project_with_another_history_is_refused(
    fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own run is left as it is."""
    assert main([*RUN]) == 0
    before = (fresh.root / ".runspec" / "runs" / "light_v1" / "journal.jsonl").read_bytes()
    assert main([*RUN, "--continue-from", str(carry)]) == 2
    assert "error[R119]" in capsys.readouterr().err
    assert (fresh.root / ".runspec" / "runs" / "light_v1" / "journal.jsonl").read_bytes() == before


def test_an_older_state_of_the_same_run_is_brought_forward(left: tuple[LightProject, Path], tmp_path: Path) -> None:
    """A machine that did the first session may do the third, after another one did the second."""
    first, carry = left[0].copy(tmp_path / "first"), left[1]
    second = LightProject.fresh(tmp_path / "second")
    spec = second.root / "runspecs" / "spec.yaml"
    assert spec.read_bytes() == (first.root / "runspecs" / "spec.yaml").read_bytes()
    words = ("--continue-from", str(carry), "--session-out", "../carry-2", "--to", "train")
    assert second.do(*RUN, *words).code == 0  # a part of the steps leaves a carry-over, too
    done = first.do(*RUN, "--continue-from", "../carry-2", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["ran"] == ["predict", "score", "summary"]
    assert first.do("verify", "submission_runs/light_v1").code == 0
    assert first.litter() == []


def test_a_project_that_has_resumed_from_it_keeps_its_own_state(
    fresh: LightProject, carry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again, after the end: nothing is copied, nothing is done again."""
    words = [*RUN, "--continue-from", str(carry), "--json"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == []


def overwritten(left: tuple[LightProject, Path], folder: Path, before: tuple[str, ...]) -> tuple[int, Path]:
    """The next session in the same project, which writes over what the first one left; ``before``: words of the driver."""
    project, first = left
    shutil.copytree(first, folder / "carry")
    again = project.copy(folder / "project")
    done = again.do(*RUN, "--session-out", "../carry", "--to", "train", before=before, LIGHT_STEPS_A_SESSION="1")
    return done.code, folder / "carry"


def check_whole(carry: Path) -> int:
    """Every file is what session.json says; returns the number of the session."""
    values = unsealed((carry / FILE).read_bytes(), SEAL)
    assert values is not None
    payload = carry / values["payload"]
    assert {name: digest_file(payload / name) for name in values["files"]} == {
        name: row["sha256"] for name, row in values["files"].items()
    }
    number: int = values["number"]
    return number


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> tuple[LightProject, Path]:
    """The same, with train steps left for more sessions than one."""
    folder = tmp_path_factory.mktemp("longer")
    project = LightProject.fresh(folder / "project")
    spec = project.root / "runspecs" / "spec.yaml"
    spec.write_text(SPEC.replace("num_train_steps: 4", "num_train_steps: 9"))
    assert project.do(*RUN, "--session-out", "../carry", **PARTS).code == 7
    return project, folder / "carry"


def check_kills(longer: tuple[LightProject, Path], folder: Path, step: int) -> None:
    """Killed at every ``step``-th call from the end on: the folder is the old one or the new one, and both are whole."""
    counted = folder / "calls"
    assert overwritten(longer, folder / "all", ("count", str(counted)))[0] == 7
    calls, numbers = int(counted.read_text()), set()
    for call in range(calls, calls // 2, -step):
        code, carry = overwritten(longer, folder / str(call), ("at", str(call)))
        assert code == -9
        numbers.add(check_whole(carry))
    assert numbers == {1, 2}


def test_the_folder_is_never_half_of_one_session_and_half_of_another(
    longer: tuple[LightProject, Path], tmp_path: Path
) -> None:
    """The short version: a few calls."""
    check_kills(longer, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_folder_is_whole_after_a_kill_at_any_call(longer: tuple[LightProject, Path], tmp_path: Path) -> None:
    """All of them."""
    check_kills(longer, tmp_path, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--session-limit", "5"), 'error[U163]: --session-limit: "5" has no unit: 5m are minutes, 5s seconds'),
        (("--session-limit", "soon"), 'error[U163]: --session-limit: "soon" is no length of time'),
        (("--session-limit", "0s"), 'error[U163]: --session-limit: "0s" is no time at all'),
        (("--session-out", "submission_runs/light_v1"), "error[U146]"),
    ],
)
def test_bad_options(
    fresh: LightProject, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything runs."""
    folder = fresh.root / "submission_runs" / "light_v1"
    folder.mkdir(parents=True)
    (folder / "run_record.json").write_text('{"run_version": "light_v1"}')
    assert main([*RUN, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (fresh.root / ".runspec" / "runs").exists()


def test_a_margin_that_is_not_shorter_than_the_limit(fresh: LightProject, capsys: pytest.CaptureFixture[str]) -> None:
    """In the run-spec a finding of validate; against the command line's limit U163."""
    path = fresh.root / "runspecs" / "spec.yaml"
    path.write_text(SPEC + "session: {limit: 1m, margin: 60s}\n")
    assert main(["validate", str(path)]) == 2
    assert "error[S311]: margin is 60s, and limit only 1m" in capsys.readouterr().err
    path.write_text(SPEC + "session: {margin: 60s}\n")
    assert main([*RUN, "--session-limit", "1m"]) == 2
    assert "error[U163]: the session limit 1m is not longer than its margin 1m" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--session-out", "next"), ("--session-out", "next", "--to", "dataset")])
def test_a_limit_in_which_nothing_can_be_done_is_refused(
    words: tuple[str, ...], fresh: LightProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step; R114 says what it must be long enough for. Nothing is left: there is nothing to resume from."""
    monkeypatch.setattr("engine.commands.run.steady_seconds", lambda: 0.0)  # the session began when the machine did
    assert main([*RUN, "--session-limit", "1s", *words]) == 2
    said = capsys.readouterr().err
    assert 'error[R114]: the session limit of 1s is too short: step "dataset" got nowhere in it' in said
    assert "the margin is 0.2s" in said
    assert fresh.litter() == []
    assert not (fresh.root / "submission_runs").exists()
    assert list((fresh.root / "next").glob("*")) == []


def test_an_interruption_before_the_first_step_is_only_that(
    fresh: LightProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, with no carry-over of nothing."""

    def interrupted(_: object) -> None:
        raise Interrupted("R203", "stopped")

    monkeypatch.setattr("engine.pipeline.runner._Run.run_steps", interrupted)
    assert main([*RUN, "--session-limit", "1h", "--session-out", "next"]) == 130
    assert "R103" not in capsys.readouterr().err
    assert list((fresh.root / "next").glob("*")) == []


def test_the_key_of_the_run_spec_is_no_ingredient(fresh: LightProject, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit that is added later makes no step run again."""
    assert main([*RUN]) == 0
    path = fresh.root / "runspecs" / "spec.yaml"
    path.write_text(SPEC + "session: {limit: 8h30m}\n")
    capsys.readouterr()
    assert main([*RUN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == []
