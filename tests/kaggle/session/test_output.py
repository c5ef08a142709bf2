"""Places, mounts, stages and what a session leaves: by laws, without a kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.canonical import digest_text
from engine.errors import InputInvalid
from engine.kaggle.session.mounts import find_dataset, find_file, find_output
from engine.kaggle.session.outcome import SessionOutcome, collect, state_of, write_outcome
from engine.kaggle.session.platform import place
from engine.kaggle.session.stages import STAGES, last_steps
from tests.kaggle.session.evidence import some_evidence


def test_each_platform_has_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kaggle's working folder (or its stand-in's), elsewhere runspec_output; a Jupyter shares no temporary folder."""
    monkeypatch.chdir(tmp_path)
    kaggle = place({"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "RUNSPEC_KAGGLE_ROOT": str(tmp_path / "k")})
    assert (kaggle.name, kaggle.output, kaggle.inputs) == (
        "kaggle",
        tmp_path / "k" / "working",
        tmp_path / "k" / "input",
    )
    assert (kaggle.scratch.name, kaggle.scratch.is_relative_to(kaggle.output)) == ("runspec", False)
    colab, jupyter = place({"COLAB_GPU": "1"}), place({})
    assert (colab.name, colab.output) == ("colab", tmp_path / "runspec_output")
    assert (jupyter.name, jupyter.scratch) == ("jupyter", tmp_path / "runspec_output" / ".scratch")
    assert place({"RUNSPEC_SCRATCH": "/big"}).scratch == Path("/big")


@pytest.mark.parametrize("folder", ["datasets/acme/wheels", "wheels"])
def test_a_dataset_is_found_in_both_layouts_by_what_is_in_it(folder: str, tmp_path: Path) -> None:
    """An empty folder of the name is not the dataset; without one the mounted ones are listed."""
    (tmp_path / "wheels" / "empty").mkdir(parents=True)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(InputInvalid, match="is not mounted") as caught:
        find_dataset(tmp_path, "acme/wheels", holds="*.whl")
    assert caught.value.code == "G170"
    assert "Mounted are: " in caught.value.hint
    (tmp_path / folder / "sub").mkdir()
    (tmp_path / folder / "sub" / "a.whl").touch()
    assert find_dataset(tmp_path, "acme/wheels", holds="*.whl") == tmp_path / folder


def test_a_file_of_a_dataset_is_found_by_its_digest(tmp_path: Path) -> None:
    """Anywhere in it; another file of the name is refused."""
    for folder, text in (("a", "other"), ("b", "rows")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "rows.jsonl").write_text(text)
    assert find_file(tmp_path, "acme/data", "rows.jsonl", digest_text("rows")) == tmp_path / "data" / "b" / "rows.jsonl"
    with pytest.raises(InputInvalid, match="is not what the notebook was made with") as caught:
        find_file(tmp_path, "acme/data", "rows.jsonl", digest_text("rows, and more"))
    assert caught.value.code == "G173"


@pytest.mark.parametrize("folder", ["notebooks/acme/run", "run"])
def test_the_output_of_an_earlier_version_is_found(folder: str, tmp_path: Path) -> None:
    """With or without its version in the name."""
    (tmp_path / folder / "session").mkdir(parents=True)
    (tmp_path / folder / "session" / "session.json").touch()
    assert find_output(tmp_path, "acme/run/3", holds="session.json") == tmp_path / folder


STEPS = st.lists(st.sampled_from([*STAGES.values(), "result_summary", "anothers_kind"]), max_size=12)


@given(STEPS)
def test_the_cells_run_every_step_in_order_and_none_twice(kinds: list[str]) -> None:
    """Law: the stops rise along the run-spec; what no cell stops at is left to the last one."""
    steps = [(f"s{number}", kind) for number, kind in enumerate(kinds)]
    stops = [stop for stop in last_steps(steps).values() if stop is not None]
    numbers = [int(stop[1:]) for stop in stops]
    assert numbers == sorted(set(numbers))
    names = list(STAGES)
    for name, stop in last_steps(steps).items():
        covered = [kind for _, kind in steps[: int(stop[1:]) + 1]] if stop else []
        assert all(
            kind in STAGES.values() and names.index(name) >= list(STAGES.values()).index(kind) for kind in covered
        )


def test_the_runbooks_steps_have_a_cell_each() -> None:
    """The order of the runbook, and two training steps in one cell."""
    steps = [(kind, kind) for kind in STAGES.values()]
    assert last_steps([*steps, ("summary", "result_summary")]) == STAGES
    assert last_steps([("a", "train_sft"), ("b", "train_sft")])["train"] == "b"


def _outcome(package: str | None) -> SessionOutcome:
    return SessionOutcome(0, "complete", "tiny_v1", "e" * 64, "c" * 64, [], package)


def test_a_later_run_replaces_evidence_and_package(tmp_path: Path) -> None:
    """Law: nothing of an earlier run of the same notebook is mixed in; other people's zips stay."""
    output = tmp_path / "working"
    output.mkdir()
    (output / "mine.zip").write_text("mine")
    for number in (1, 2):
        evidence, package = tmp_path / f"evidence{number}", tmp_path / f"run_{number}.zip"
        some_evidence(evidence, f"only_{number}.json")
        package.write_text(str(number))
        assert collect(output, evidence, package) == package.name
        write_outcome(output, _outcome(package.name))
    names = ["evidence", "mine.zip", "outcome.json", "run_2.zip", "witness.json"]
    assert sorted(path.name for path in output.iterdir()) == names
    kept = sorted(path.name for path in (output / "evidence").iterdir())
    assert kept == ["manifest-sha256.txt", "only_2.json", "run_record.json"]
    assert json.loads((output / "witness.json").read_text())["digests"].keys() == {"only_2.json", "run_record.json"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"package": "../mine.zip"}', '{"package": 7}', '{"package": "outcome.json"}']
)
def test_an_outcome_that_was_edited_deletes_nothing(text: str, tmp_path: Path) -> None:
    """What the file names is believed only where it is a zip in the folder."""
    output, package = tmp_path / "working", tmp_path / "run.zip"
    some_evidence(tmp_path / "evidence")
    output.mkdir()
    for path in (package, tmp_path / "mine.zip"):
        path.touch()
    (output / "outcome.json").write_text(text)
    collect(output, tmp_path / "evidence", package)
    assert (tmp_path / "mine.zip").exists()
    assert (output / "outcome.json").exists()


def test_the_outcome_is_what_the_interface_says(tmp_path: Path) -> None:
    """Schema version, state and digests; 7 and 130 are incomplete, other codes failed."""
    write_outcome(tmp_path, _outcome("a.zip"))
    assert set(json.loads((tmp_path / "outcome.json").read_text())) == {
        "schema_version", "exit_code", "state", "run_version", "engine_sha256", "notebook_sha256_of_cells", "edited_cells", "package", "next",
    }  # fmt: skip
    assert [state_of(code, finished=True) for code in (0, 7, 130, 1, 2, 5, 8)] == [
        "complete",
        "incomplete",
        "incomplete",
        *["failed"] * 4,
    ]
