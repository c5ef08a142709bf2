"""plan, run, status, show, explain and logs over a toy project whose spec is made in code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import extras
from engine.errors import Interrupted, RunFailed, Where
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec
from engine.steps import FunctionHandler, StepContext, StepResult

SCHEMA = {"type": "object", "additionalProperties": False, "properties": {}}
CHECKS = ({"id": "V24", "title": "trust level", "status": "pass", "detail": "L0, unsigned: the files agree"},
          {"id": "V01", "title": "names", "status": "pass", "detail": ""},
          {"id": "V19", "title": "address", "status": "n/a", "detail": "not run on Kaggle"})  # fmt: skip


def _grow(ctx: StepContext) -> StepResult:
    ctx.emit({"event": "train_step", "train_step": 1, "num_train_steps": 1, "loss": 0.5})
    ctx.note("growing")
    mood = ctx.args.get("mood")
    if mood == "fails":
        raise RunFailed("R999", "no apples this year")
    if mood == "stops":
        raise Interrupted("R203", "saved")
    if mood == "bug":
        raise ZeroDivisionError("oops")
    (ctx.out / "apple.json").write_text(json.dumps({"mood": mood}))
    return StepResult({"n_rows": 3})


def _sum_up(ctx: StepContext) -> StepResult:
    (ctx.out / "summary.txt").write_text("=====\nRESULT SUMMARY\n=====\n")
    return StepResult({"primary_score": 1.0})


HANDLERS = {
    "grow": FunctionHandler("grow", 1, "grows apples", "apple", SCHEMA, _grow, files=("apple.json",)),
    "result_summary": FunctionHandler("result_summary", 1, "sums up", "summary", SCHEMA, _sum_up,
                                      takes=("apple",), files=("summary.txt",)),
}  # fmt: skip


def _spec(root: Path, overrides: list[str]) -> Spec:
    given = dict(word.removeprefix("grow.").split("=", 1) for word in overrides)
    args = {"mood": "well", **given}
    steps = (
        StepSpec("grow", "grow", args, args, None, Where("toy.yaml", 1, 1)),
        StepSpec("summary", "result_summary", {}, {}, None, Where("toy.yaml", 2, 1)),
    )
    return Spec(
        version=1, run_version="toy_v1", notes="", device="auto", model=ModelSpec("toy"),
        dataset=DatasetSpec(name="toy"), eval_set="eval.jsonl", steps=steps,
        evidence=EvidenceSpec("submission_runs/toy_v1"), package=PackageSpec("toy"), path=root / "toy.yaml",
        root=root, data=b"toy", digest="0" * 64,
    )  # fmt: skip


@pytest.fixture
def toy(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project where ``toy.yaml`` is a spec of two steps, and finishing a run writes one evidence file."""
    import engine.pipeline.runner
    import engine.runspec
    import engine.steps.registry
    from engine.pipeline.finish import Finish

    (project / "toy.yaml").write_text("toy")
    (project / "eval.jsonl").write_text("{}\n")

    def load_spec(path: Path, overrides: list[str], **_: Any) -> Spec:
        return _spec(project, overrides)

    def finish_run(spec: Spec, record: Any, journal: Any, note: Any) -> Finish:
        folder = spec.resolve(spec.evidence.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run_manifest.json").write_text(f'{{"run_version": "{spec.run_version}"}}\n')
        return Finish(folder, project / "submission" / "toy.zip", "L0", CHECKS, fresh=True)

    monkeypatch.setattr(engine.runspec, "load_spec", load_spec, raising=False)
    monkeypatch.setattr(engine.runspec, "find_root", lambda path: project, raising=False)
    monkeypatch.setattr(engine.steps.registry, "handlers", lambda: HANDLERS)
    monkeypatch.setattr(engine.pipeline.runner, "finish_run", finish_run)
    return project


def test_plan_shows_steps_reasons_and_price(runspec, toy):
    """Text for people and the promised shape for machines."""
    done = runspec("plan", "toy.yaml")
    assert done.code == 0, done.err
    assert done.out.startswith("toy_v1: 2 of 2 steps to run\n  grow ")
    document = runspec("plan", "toy.yaml", "--json").document
    assert set(document) == {"steps", "target", "memory", "time", "disk"}
    assert [set(step) for step in document["steps"]] == [{"id", "uses", "action", "reason", "fingerprint"}] * 2


def test_a_run_ends_with_summary_evidence_checks_and_git_commands(runspec, toy):
    """Standard output has the answer; progress is on standard error."""
    done = runspec("run", "toy.yaml")
    assert done.code == 0, done.err
    assert done.out == (
        "=====\nRESULT SUMMARY\n=====\n"
        "evidence  submission_runs/toy_v1/\n"
        "package   submission/toy.zip\n"
        "verified  L0, unsigned: the files agree\n"
        "next      L1: a signature (`runspec sign`) by a key that you trust (`verify --trust KEYS`)\n"
        "\ncommit the evidence:\n"
        "  git add -- submission_runs/toy_v1/\n"
        "  git commit -m 'Add evidence of run toy_v1' -- submission_runs/toy_v1/\n"
    )
    assert "[1/2] grow · grow: grows apples" in done.err
    assert "2 steps ran, 0 skipped" in done.err


def test_run_with_json_is_one_document(runspec, toy):
    """Everything the text says is in the document."""
    document = runspec("run", "toy.yaml", "--json").document
    assert document["ok"] is True
    assert document["ran"] == ["grow", "summary"]
    assert document["summary"] == {"primary_score": 1.0}
    assert (document["evidence"], document["package"]) == ("submission_runs/toy_v1", "submission/toy.zip")
    assert [check["id"] for check in document["checks"]] == ["V24", "V01", "V19"]


def test_quiet_keeps_standard_error_empty(runspec, toy):
    """--quiet prints the answer and nothing else."""
    assert runspec("run", "toy.yaml", "--quiet").err == ""


def test_a_second_run_does_nothing_and_says_so(runspec, toy):
    """Both steps are skipped; the log has not grown."""
    runspec("run", "toy.yaml")
    log = toy / ".runspec" / "logs" / "toy_v1.jsonl"
    before = log.read_bytes()
    done = runspec("run", "toy.yaml")
    assert done.code == 0
    assert "nothing to do: all 2 steps are done already" in done.err
    assert log.read_bytes() == before


@pytest.mark.parametrize(("mood", "code"), [("fails", 1), ("stops", 130), ("bug", 3)])
def test_how_a_run_can_end(runspec, toy, mood, code):
    """A failed step is 1, a stopped one 130, a bug in a handler 3; status tells them apart afterwards."""
    done = runspec("run", "toy.yaml", f"grow.mood={mood}")
    assert done.code == code
    assert "Traceback" not in done.err
    state = runspec("status", "toy_v1", "--json").document["state"]
    assert {1: "failed", 130: "interrupted"}.get(code, state) == state


def test_a_part_of_the_steps_makes_no_evidence(runspec, toy):
    """--only runs one step and says that there is no evidence."""
    done = runspec("run", "toy.yaml", "--only", "grow")
    assert done.code == 0
    assert done.out == "ran: grow; a part of the steps makes no evidence\n"


def test_a_part_that_is_done_says_nothing_of_the_rest(runspec, toy):
    """The step that was asked for is done; the other one is not made yet."""
    runspec("run", "toy.yaml", "--only", "grow")
    assert "nothing to do: the step is done already" in runspec("run", "toy.yaml", "--only", "grow").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--from summary --to grow", "--from summary comes after --to grow, so that no step is left"),
        ("--only summary --from grow", "--only summary runs one step alone"),
        ("--only summary --to summary", "--only summary runs one step alone"),
        ("--to grow --force summary", "--force summary is not among the steps that are selected"),
    ],
)
def test_a_selection_that_contradicts_itself_is_no_success(runspec, toy, options, message):
    """Nothing would run, with exit code 0 and the words "all steps are done already"."""
    done = runspec("run", "toy.yaml", *options.split(), "--json")
    (found,) = done.document["diagnostics"]
    assert (done.code, found["code"], found["message"]) == (2, "U103", f"runspec run: {message}")
    assert runspec("run", "toy.yaml", "--from", "grow", "--to", "grow", "--force", "grow").code == 0


@pytest.mark.parametrize("option", ["--from", "--to", "--only", "--force"])
def test_an_unknown_step_is_suggested(runspec, toy, option):
    """A typo in the id of a step is exit 2."""
    done = runspec("run", "toy.yaml", option, "grw", "--json")
    assert done.code == 2
    assert done.document["diagnostics"][0]["hint"] == 'did you mean "grow"?'


def test_commit_does_what_the_printed_commands_do(runspec, toy, monkeypatch):
    """--commit makes the commit and prints its SHA."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    subprocess.run(["git", "init", "-q"], cwd=toy, check=True)
    document = runspec("run", "toy.yaml", "--commit", "--json").document
    assert len(document["committed"]) == 40


def test_commit_outside_a_checkout_is_explained(runspec, toy, monkeypatch):
    """Before the first step runs: the exit code is 2, the sentence says what to do."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(toy.parent))
    done = runspec("run", "toy.yaml", "--commit")
    assert done.code == 2
    assert "U122" in done.err
    assert not (toy / ".runspec" / "store").exists()


def test_a_step_without_its_extra_stops_before_the_first_step(runspec, toy, monkeypatch):
    """X101 names the step, the extra and the pip line; nothing has run."""
    import dataclasses

    monkeypatch.setitem(extras.EXTRAS, "train", ("surely_not_installed",))
    monkeypatch.setitem(
        HANDLERS, "result_summary", dataclasses.replace(HANDLERS["result_summary"], needs_extra="train")
    )
    done = runspec("run", "toy.yaml")
    assert (done.code, "X101" in done.err) == (2, True)
    assert "pip install 'runspec-engine[train]'" in done.err
    assert not (toy / ".runspec" / "runs").exists()


def test_an_argument_that_needs_an_extra_stops_before_the_first_step(runspec, toy, monkeypatch):
    """`extras` in a step's schema: a value that needs a library of its own says so before an hour has passed."""
    import dataclasses

    schema = {
        "type": "object",
        "properties": {"mood": {"x-extras": {"logged": "wandb"}}, "tone": {"x-extras": {"low": "mlflow"}}},
    }
    for extra in ("wandb", "mlflow"):
        monkeypatch.setitem(extras.EXTRAS, extra, ("surely_not_installed",))
    monkeypatch.setitem(HANDLERS, "grow", dataclasses.replace(HANDLERS["grow"], schema=schema))
    done = runspec("run", "toy.yaml", "grow.mood=logged")
    assert (done.code, done.err.count("error[X101]"), "'runspec-engine[wandb]'" in done.err) == (2, 1, True)
    done = runspec("run", "toy.yaml", "grow.mood=logged", "grow.tone=low")
    assert (done.code, done.err.count("error[X101]")) == (2, 2), "all at once"
    assert runspec("run", "toy.yaml", "grow.mood=quiet").code == 0


def test_what_is_done_needs_no_extra(runspec, toy, monkeypatch):
    """With every step published a reviewer without JAX may still type `runspec run`."""
    import dataclasses

    monkeypatch.setitem(
        HANDLERS, "result_summary", dataclasses.replace(HANDLERS["result_summary"], needs_extra="train")
    )
    assert runspec("run", "toy.yaml").code == 0
    monkeypatch.setitem(extras.EXTRAS, "train", ("surely_not_installed",))
    assert runspec("run", "toy.yaml").code == 0


def test_status_show_explain_and_logs_of_a_run(runspec, toy):
    """Each looks at the run that was just made, as text and as one document."""
    runspec("run", "toy.yaml")
    status = runspec("status", "--json").document
    assert [run["run_version"] for run in status["runs"]] == ["toy_v1"]
    assert "toy_v1" in runspec("status").out
    steps = runspec("status", "toy_v1", "--json").document["steps"]
    assert [(step["id"], step["state"]) for step in steps] == [("grow", "finished"), ("summary", "finished")]
    shown = runspec("show", "toy_v1", "grow", "--json").document["steps"]
    assert (shown[0]["facts"], list(shown[0]["files"])) == ({"n_rows": 3}, ["apple.json"])
    assert "apple.json" in runspec("show", "toy_v1", "grow").out
    because = runspec("explain", "toy.yaml", "grow.mood=better", "grow", "--json").document["steps"]
    assert "with.mood: well -> better" in because[0]["because"][1]
    assert "skip" in runspec("explain", "toy.yaml").out
    events = runspec("logs", "--json").document["events"]
    assert events[0]["event"] == "run_started"
    assert "growing" in runspec("logs", "toy_v1", "--tail", "6").out


def test_looking_before_the_first_run(runspec, toy):
    """status answers, the others say that there is no run yet and how to begin one."""
    assert runspec("status").code == 0
    for command in ("show toy_v1", "logs", "logs toy_v1"):
        done = runspec(*command.split())
        assert (done.code, "runspec run SPEC" in done.err) == (2, True)


def test_an_unknown_run_is_suggested(runspec, toy):
    """A typo in a run_version is U112 with the near one."""
    runspec("run", "toy.yaml")
    done = runspec("show", "toy_v2", "--json")
    assert done.document["diagnostics"][0]["hint"] == 'did you mean "toy_v1"?'


@pytest.mark.parametrize(
    ("words", "code"),
    [(["evidence", "toy.yaml"], 4), (["package", "toy.yaml"], 4), (["verify", "nowhere"], 2)],
)
def test_the_last_phases_need_a_run(runspec, toy, words, code):
    """Without a finished run evidence and package are incomplete (4), and there is nothing to verify (2)."""
    done = runspec(*words, "--json")
    assert done.code == code
    assert done.document["ok"] is False


def test_a_wrong_target_is_explained(runspec, toy):
    """plan --target with a typo is exit 2."""
    assert runspec("plan", "toy.yaml", "--target", "kaggle-t5").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_of_a_real_process_is_130(tmp_path, number):
    """SIGINT, SIGTERM or SIGHUP while a command works ends in 130 and one sentence, no traceback."""
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # these tests may be run with nohup, or by a shell's `&`
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "import engine.commands.start as start\n"
        "from engine.cli import main\n"
        "def slow(_):\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "start.presets = slow\n"
        "sys.exit(main(['presets']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert stderr == "error[U130]: interrupted\n"


def test_the_end_of_a_run_names_the_folder_of_the_model(runspec, toy, monkeypatch):
    """Of the last step that exported one, also of a part of the steps; not of a step that was not selected."""
    import dataclasses

    def train(ctx: StepContext) -> StepResult:
        (ctx.out / "model").mkdir()
        (ctx.out / "model" / "config.json").write_text("{}")
        return _grow(ctx)

    monkeypatch.setitem(HANDLERS, "grow", dataclasses.replace(HANDLERS["grow"], function=train))
    done = runspec("run", "toy.yaml", "--to", "grow")
    [folder] = (toy / ".runspec" / "store" / "apple").iterdir()
    line = f"model     .runspec/store/apple/{folder.name}/model/\n"
    assert done.out == f"ran: grow; a part of the steps makes no evidence\n{line}"
    assert (
        runspec("run", "toy.yaml", "--only", "summary").out == "ran: summary; a part of the steps makes no evidence\n"
    )
    done = runspec("run", "toy.yaml")
    assert f"RESULT SUMMARY\n=====\n{line}evidence  submission_runs/toy_v1/\n" in done.out
    document = runspec("run", "toy.yaml", "--json").document
    assert (document["model"], document["replaced"]) == (f".runspec/store/apple/{folder.name}/model", None)


def test_status_and_show_while_the_next_attempt_runs(runspec, toy):
    """A second attempt that has failed stands first, the last complete run apart from it; one that is verified stands alone."""
    from engine.artifacts.journal import Journal, journal_path

    runspec("run", "toy.yaml")
    Journal(journal_path(toy / ".runspec", "toy_v1")).append(
        "verified", identity="x", package="p.zip", sha256="0", trust_level="L0", checks=[]
    )
    assert runspec("status", "toy_v1", "--json").document["complete"] is None
    assert runspec("run", "toy.yaml", "grow.mood=fails").code == 1
    status = runspec("status", "toy_v1", "--json").document
    assert [(step["id"], step["state"]) for step in status["steps"]] == [("grow", "failed"), ("summary", "waiting")]
    assert [(step["id"], step["state"]) for step in status["complete"]["steps"]] == [
        ("grow", "finished"),
        ("summary", "finished"),
    ]
    shown = runspec("show", "toy_v1", "--json").document
    assert shown["steps"] == []
    assert next((step["id"], step["facts"]) for step in shown["complete"]["steps"]) == ("grow", {"n_rows": 3})
    one = runspec("show", "toy_v1", "summary").out
    assert one.startswith('the last attempt, not complete:\n  step "summary" has not finished\n\nthe last complete run')
    text = runspec("show", "toy_v1").out
    assert text.startswith(
        "the last attempt, not complete:\n  no step has finished yet\n\nthe last complete run, verified "
    )
