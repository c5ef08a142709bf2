"""Laws of rendering: every field of the runbook, computed; twice the same; missing, undefined and forbidden are told apart."""

from __future__ import annotations

import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.errors import EvidenceIncomplete, InputInvalid, RunFailed, RunspecError
from engine.evidence import archive, check_owner, package, verify
from engine.evidence.bundle import Bundle

RUNBOOK_MANIFEST = {
    "run_version", "model_id", "dataset", "eval_set", "config_path", "command", "commit_sha", "timestamp", "tuning_job_id", "trial_id",
    "kaggle_notebook_url", "kaggle_notebook_version", "kaggle_run_id", "notes",
}  # fmt: skip
RUNBOOK_SUMMARY = {
    "run_version",
    "eval_set",
    "metrics",
    "primary_score",
    "scorecard",
    "predictions_path",
    "evaluated_at",
    "notes",
}
RUNBOOK_CARD = {"n_items", "n_scored", "n_skipped", "stddev", "section_scores", "category_scores", "difficulty_scores"}


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_every_field_of_the_runbook_is_there_with_a_value_or_a_reason(record: RunRecord, render: Any) -> None:
    """Step 4 of the runbook, field by field."""
    folder = render(record)
    manifest, summary = read(folder, "run_manifest.json"), read(folder, "eval_summary.json")
    assert set(manifest) >= RUNBOOK_MANIFEST
    assert set(summary) >= RUNBOOK_SUMMARY
    assert set(summary["scorecard"]) == RUNBOOK_CARD
    assert {key for key, value in manifest.items() if value is None} == set(manifest["not_applicable"])
    assert summary["primary_score"] == summary["metrics"]["answer_correctness"] == 0.8
    assert summary["metrics"]["final_loss"] == 0.25


def test_the_log_has_setup_losses_and_the_summary_block(record: RunRecord, render: Any) -> None:
    """What the runbook asks to be copied out of the cells."""
    log = (render(record) / "kaggle_output_log.txt").read_text(encoding="utf-8")
    for text in (
        "jax 0.10.2",
        "cpu:0",
        "train step 1/4",
        "train step 4/4",
        "RESULT SUMMARY",
        "primary_score: 0.8000",
        "1 rows repeat an earlier prompt",
    ):
        assert text in log


def test_rendering_again_changes_no_byte_and_no_file_time(record: RunRecord, render: Any) -> None:
    """A second rendering leaves every file alone."""
    folder = render(record)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    render(record)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_the_manifest_is_what_sha256sum_reads(record: RunRecord, render: Any) -> None:
    """A stranger needs coreutils only."""
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "manifest-sha256.txt"], cwd=render(record), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("uses", "field"), [("score", "primary_score"), ("train_sft", "final_loss"), ("result_summary", "RESULT SUMMARY")]
)
def test_a_missing_step_stops_with_exit_4_and_is_named(record: RunRecord, render: Any, uses: str, field: str) -> None:
    """It says which step should have made which field."""
    steps = tuple(step for step in record.steps if step.uses != uses)
    with pytest.raises(EvidenceIncomplete) as caught:
        render(record, steps=steps)
    assert caught.value.exit_code == 4
    assert uses in str(caught.value)


def test_a_fact_that_a_step_did_not_make_is_named(record: RunRecord, render: Any) -> None:
    """The field, the step's id and its kind."""
    facts = {key: value for key, value in record.steps[1].artifact.facts.items() if key != "model_sha256"}
    train = replace(record.steps[1], artifact=replace(record.steps[1].artifact, facts=facts))
    with pytest.raises(EvidenceIncomplete, match=r'model_sha256, and step "train" \(train_sft\) did not make it'):
        render(record, steps=(record.steps[0], train, *record.steps[2:]))


def test_no_git_checkout_is_a_reason_not_a_hole(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """And the package says nogit."""
    folder = render(record, environment={**record.environment, "commit_sha": None, "commit_dirty": None})
    assert read(folder, "run_manifest.json")["not_applicable"]["commit_sha"] == "the project is not a git checkout"
    assert package(folder, tmp_path / "out", "toy").name == "toy_20260102_nogit.zip"


UNKNOWN = {"commit_dirty": None, "diff_sha256": None, "commit_unknown": "git failed: index file corrupt"}


def test_what_git_could_not_say_is_unknown_and_never_clean(
    record: RunRecord, render: Any, edit: Any, reseal: Any
) -> None:
    """With its true reason in the manifest, in the log and in what verify says; a made-up `false` is found."""
    folder = render(record, environment={**record.environment, **UNKNOWN})
    manifest = read(folder, "run_manifest.json")
    assert (manifest["commit_dirty"], manifest["not_applicable"]["commit_dirty"]) == (
        None,
        "git failed: index file corrupt",
    )
    log = (folder / "kaggle_output_log.txt").read_text()
    assert f"commit: {'1' * 40}; whether files were changed since is unknown: git failed: index file corrupt\n" in log
    verification = verify(folder)
    assert verification.ok
    [check] = [check for check in verification.checks if check.id == "V07"]
    assert check.detail == "111111111111, whether files were changed since is unknown: git failed: index file corrupt"
    edit(folder / "run_manifest.json", lambda values: values.update(commit_dirty=False))
    reseal(folder)
    assert "V25" in {check.id for check in verify(folder).checks if check.status == "fail"}


def test_a_commit_that_git_could_not_name_has_gits_own_reason(record: RunRecord, render: Any) -> None:
    """Not installed, no commit yet, another user's folder: the manifest says which."""
    unknown = {"commit_sha": None, "commit_dirty": None, "commit_unknown": "git is not installed"}
    folder = render(record, environment={**record.environment, **unknown})
    assert read(folder, "run_manifest.json")["not_applicable"]["commit_sha"] == "git is not installed"
    assert "commit: git is not installed\n" in (folder / "kaggle_output_log.txt").read_text()


def test_evidence_says_what_is_known_against_its_times(record: RunRecord, render: Any) -> None:
    """A clock that was set back during a step, and one that was never set: evidence comes, and log and verify say it."""
    facts = {**record.steps[1].artifact.facts, "clock": "the clock was set back by 3600 s during this step"}
    train = replace(record.steps[1], artifact=replace(record.steps[1].artifact, facts=facts))
    session = "the last session began at 1970-01-01T00:00:09Z, before an event of an earlier one (2026-01-02T03:04:09Z)"
    folder = render(
        record, steps=(record.steps[0], train, *record.steps[2:]), environment={**record.environment, "clock": session}
    )
    said = f"{session}\nstep train: the clock was set back by 3600 s during this step\n"
    assert said in (folder / "kaggle_output_log.txt").read_text()
    verification = verify(folder)
    assert verification.failed == []
    [check] = [check for check in verification.checks if check.id == "V08"]
    assert check.detail == f"{record.started_at} to {record.finished_at}; {said.strip().replace(chr(10), '; ')}"


TEMPLATES = {
    "undefined": ("{{ primry_score }}", EvidenceIncomplete, "E102", 'did you mean "primary_score"?'),
    "undefined_inside": ("{{ scorecard.nothing }}", EvidenceIncomplete, "E102", "notes.txt.j2:1"),
    "class": ("{{ ''.__class__.__mro__ }}", RunspecError, "", "notes.txt.j2:1"),
    "attr_filter": ("{{ notes | attr('__class__') }}", RunspecError, "", "notes.txt.j2:1"),
    "format_trick": ("{{ '{0.__class__}'.format(notes) }}", RunspecError, "", ""),
    "change": ("{{ overrides.update({'a': 1}) }}", InputInvalid, "E103", "may not"),
    "globals": ("{{ cycler.__init__.__globals__ }}", RunspecError, "", ""),
    "syntax": ("one\n{% if %}", InputInvalid, "E104", "notes.txt.j2:2"),
    "range": ("{% for n in range(10000000) %}x{% endfor %}", RunspecError, "", ""),
    "endless": ("{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxx{% endfor %}{% endfor %}", InputInvalid, "E105", "more than"),
    "silent": ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", InputInvalid, "E105", "counts more than"),
    "division": ("{{ 1 / 0 }}", InputInvalid, "E104", "ZeroDivisionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_does_something_forbidden_is_a_clear_error(
    record: RunRecord, render: Any, tmp_path: Path, name: str
) -> None:
    """Nothing is written, and there is no traceback."""
    text, kind, code, part = TEMPLATES[name]
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "notes.txt.j2").write_text(text)
    with pytest.raises(kind) as caught:
        render(record, files=("notes.txt",), templates=templates)
    assert code in str(caught.value)
    assert part in str(caught.value)
    assert not (tmp_path / "submission_runs" / "toy_v1").exists()


def test_no_template_and_broken_json_are_told_apart(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """E106, E107, E111."""
    with pytest.raises(InputInvalid, match="there is no template"):
        render(record, files=("extra.json",))
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "extra.json.j2").write_text("{ {{ notes }} }")
    with pytest.raises(InputInvalid, match="does not render JSON"):
        render(record, files=("extra.json",), templates=templates)
    (templates / "eval_summary.json.j2").write_text("{}")
    with pytest.raises(EvidenceIncomplete, match="breaks its schema"):
        render(record, files=("eval_summary.json",), templates=templates)


@pytest.mark.parametrize("entry", ["a dead link", "a folder"])
def test_an_own_template_that_is_no_file_is_not_replaced_by_the_shipped_one(
    record: RunRecord, render: Any, tmp_path: Path, entry: str
) -> None:
    """The evidence would be rendered by another template than the project's, without a word."""
    own = tmp_path / "templates" / "eval_summary.json.j2"
    own.parent.mkdir()
    if entry == "a folder":
        own.mkdir()
    else:
        own.symlink_to("gone.j2")
    with pytest.raises(
        InputInvalid, match=r"E106.*templates/eval_summary\.json\.j2 is a (folder|link that leads nowhere)"
    ):
        render(record, files=("eval_summary.json",), templates=own.parent)


def test_a_projects_own_template_and_an_extra_file_are_used(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """The playbook for one more evidence file: a template and one line."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "extra.txt.j2").write_text("{{ model_id }} scored {{ primary_score }}\n")
    folder = render(
        record,
        files=("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt", "extra.txt"),
        templates=templates,
    )
    assert (folder / "extra.txt").read_text() == "toy/model scored 0.8\n"
    assert verify(folder).ok


def test_the_evidence_of_another_run_is_never_overwritten(record: RunRecord, render: Any) -> None:
    """E108, and the folder stays as it was."""
    folder = render(record)
    before = (folder / "run_manifest.json").read_bytes()
    with pytest.raises(InputInvalid, match="contains the evidence of toy_v1, not of toy_v2"):
        render(record, run_version="toy_v2")
    assert (folder / "run_manifest.json").read_bytes() == before


def test_a_folder_with_somebodys_files_is_left_alone(record: RunRecord, render: Any) -> None:
    """E108 names them, whatever their names; an interrupted rendering of the run itself is completed."""
    folder = render(record)
    for path in folder.iterdir():
        if path.name != "run_record.json":
            path.unlink()
    assert verify(render(record)).ok
    for path in folder.iterdir():
        path.unlink()
    (folder / ".gitkeep").touch()
    (folder / "metrics.jsonl").write_text("mine")
    with pytest.raises(InputInvalid, match=r"toy_v1/ contains files that no run has written: metrics.jsonl"):
        render(record)
    assert sorted(path.name for path in folder.iterdir()) == [".gitkeep", "metrics.jsonl"]
    assert (folder / "metrics.jsonl").read_text() == "mine"


def test_a_full_disk_is_an_error_with_a_hint(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """A file is in the way of the folder: the operating system refuses."""
    (tmp_path / "submission_runs").write_text("in the way")
    with pytest.raises(RunFailed, match="the evidence cannot be written"):
        render(record)


def test_the_same_evidence_gives_the_same_zip(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """Byte for byte, and the name has the date and the commit."""
    folder = render(record)
    one, two = package(folder, tmp_path / "one", "toy"), package(folder, tmp_path / "two", "toy")
    assert one.name == "toy_20260102_1111111.zip"
    assert one.read_bytes() == two.read_bytes()


def test_a_file_that_changes_while_it_is_packaged_is_packed_as_it_was_checked(
    record: RunRecord, render: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is read once: what is searched and verified is what the zip has, or the file is refused by name."""
    folder = render(record)
    good, read = (folder / "predictions.jsonl").read_bytes(), archive.read_bundle

    def read_then_changed(path: Path) -> Bundle:
        bundle = read(path)
        (path / "predictions.jsonl").write_bytes(good[: len(good) // 2])
        return bundle

    monkeypatch.setattr(archive, "read_bundle", read_then_changed)
    packed = package(folder, tmp_path / "out", "toy")
    with zipfile.ZipFile(packed) as members:
        assert members.read("toy_v1/predictions.jsonl") == good
    with pytest.raises(EvidenceIncomplete, match=r"V02 .*predictions\.jsonl has been changed"):
        package(folder, tmp_path / "other", "toy")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "secret", ["hf_" + "a1" * 17, "KGAT_" + "b" * 32, "AKI" + "A" + "C" * 16, "-----BEGIN " + "PRIVATE KEY-----"]
)
def test_a_secret_is_never_packed_and_never_shown(record: RunRecord, render: Any, tmp_path: Path, secret: str) -> None:
    """P101 names the position and the kind, not the secret: of a file that was changed after it was rendered, too."""
    folder = render(record)
    (folder / "kaggle_output_log.txt").write_text(f"one\nmy {secret} here\n")
    with pytest.raises(RunFailed) as caught:
        package(folder, tmp_path / "out", "toy")
    assert "P101" in str(caught.value)
    assert "kaggle_output_log.txt:2 looks like a secret" in str(caught.value)
    assert secret not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "form", ["hf_" + "a1" * 17, "X7-wonder-land-99", "NzctT1JERVItWDctd29uZGVyLWxhbmQtOTk=", "X7-\nwonder-\nland-99"]
)
def test_a_secret_is_never_written_into_the_evidence_folder(
    record: RunRecord, render: Any, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X340, of the environment's values in any spelling and of shapes; nothing is written, and nothing of it is shown."""
    monkeypatch.setenv("MY_ACCESS_KEY", "X7-wonder-land-99")
    with pytest.raises(RunFailed) as caught:
        render(record, notes=f"my {form} here")
    assert {row.code for row in caught.value.diagnostics} == {"X340"}
    assert "run_manifest.json:" in str(caught.value)
    assert form not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and form.encode() in path.read_bytes()]
    assert not list(tmp_path.rglob("run_manifest.json"))


@pytest.mark.parametrize(
    ("uses", "name"),
    [("train_sft", "metrics.jsonl"), ("result_summary", "summary.json"), ("score", "scorecard.json"),
     ("score", "predictions.jsonl"), ("build_dataset", "manifest.json"), ("train_sft", "train_report.json")],
)  # fmt: skip
def test_a_changed_artifact_is_named_before_anything_is_rendered(
    record: RunRecord, render: Any, tmp_path: Path, uses: str, name: str
) -> None:
    """R105 with the file, the step and the command; a template that would be at fault is not even read."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "notes.txt.j2").write_text("{% if %}")
    step = record.step_of(uses)
    assert step is not None
    path = step.artifact.path / name
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with pytest.raises(RunFailed) as caught:
        render(record, files=("notes.txt",), templates=templates)
    assert caught.value.code == "R105"
    assert f'made by step "{step.id}" has been changed on disk: {name}' in str(caught.value)
    assert f"runspec run runspecs/toy.yaml --force {step.id}" in str(caught.value)
    assert not (tmp_path / "submission_runs").exists()


def test_what_a_killed_rendering_left_does_not_stop_the_next(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """Neither evidence nor package; each removes it."""
    folder = render(record)
    left = folder / ".run_manifest.json.0123abcd.tmp"
    left.write_text("half")
    assert not verify(folder).ok
    assert verify(render(record)).ok
    left.write_text("half")
    (tmp_path / "out").mkdir()
    for name in (".toy_20260102_1111111.zip.0123abcd.tmp", ".other_1.zip.0123abcd.tmp"):
        (tmp_path / "out" / name).write_text("half")
    package(folder, tmp_path / "out", "toy")
    assert not left.exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".other_1.zip.0123abcd.tmp",
        "toy_20260102_1111111.zip",
    ]


@pytest.mark.parametrize("name", ["run_manifest.json", "run_record.json"])
@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"run_version": 7}', "\x00"])
def test_a_runs_own_damaged_evidence_is_written_again(record: RunRecord, render: Any, name: str, damage: str) -> None:
    """One of the two files that name the run is enough."""
    folder = render(record)
    (folder / name).write_text(damage)
    assert verify(render(record)).ok


@pytest.mark.parametrize("name", ["run_manifest.json", "run_record.json"])
def test_a_damaged_name_of_the_run_is_not_believed(record: RunRecord, render: Any, name: str) -> None:
    """Where the two files disagree, the one that the folder's list of digests vouches for is right."""
    folder = render(record)
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace('"run_version": "toy_v1"', '"run_version": "toy_v0"'))
    assert verify(render(record)).ok
    (folder / name).write_text(text.replace('"run_version": "toy_v1"', '"run_version": "toy_v0"'))
    (folder / "manifest-sha256.txt").unlink()
    with pytest.raises(InputInvalid, match="evidence of a run that cannot be told") as caught:
        render(record)
    assert caught.value.code == "E108"
    assert "move the folder away; the next run writes it again" in str(caught.value)


def test_evidence_that_cannot_be_read_is_named(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """R112 with the file; a folder in a file's place and a file in the folder's place are E110."""
    folder = render(record)
    (folder / "run_record.json").unlink()
    (folder / "run_record.json").symlink_to("/proc/self/mem")
    with pytest.raises(RunFailed, match=r"R112.*run_record.json: Input/output error"):
        render(record)
    (folder / "run_record.json").unlink()
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    with pytest.raises(RunFailed, match=r"E110.*toy_v1/metrics.jsonl: Is a directory"):
        render(record)
    with pytest.raises(RunFailed, match=r"E110.*items.jsonl is not a folder"):
        check_owner("toy_v1", tmp_path / "items.jsonl")


def test_what_a_person_sets_on_kaggle_is_in_the_evidence(record: RunRecord, render: Any, monkeypatch: Any) -> None:
    """A kernel does not know its address: the variables that the reference names, or a reason that names the missing one."""
    from engine.evidence import verify
    from engine.pipeline.provenance import kaggle_facts

    assert kaggle_facts() is None
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("RUNSPEC_KAGGLE_NOTEBOOK_URL", "https://www.kaggle.com/code/someone/notebook")
    monkeypatch.setenv("RUNSPEC_KAGGLE_NOTEBOOK_VERSION", "3")
    monkeypatch.setenv("RUNSPEC_KAGGLE_RUN_ID", "")
    folder = render(record, environment={**record.environment, "kaggle": kaggle_facts()})
    manifest = json.loads((folder / "run_manifest.json").read_text(encoding="utf-8"))
    fields = {name: manifest[f"kaggle_{name}"] for name in ("notebook_url", "notebook_version", "run_id")}
    assert fields == {
        "notebook_url": "https://www.kaggle.com/code/someone/notebook",
        "notebook_version": "3",
        "run_id": None,
    }
    reason = "a Kaggle kernel cannot read this itself, and RUNSPEC_KAGGLE_RUN_ID was not set"
    assert manifest["not_applicable"]["kaggle_run_id"] == reason
    assert next(check for check in verify(folder).checks if check.id == "V19").status == "pass"
