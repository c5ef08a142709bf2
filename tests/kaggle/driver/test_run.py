"""A run on Kaggle from one command: pushed, watched, fetched, verified, through as many sessions as it needs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import extras
from engine.artifacts.store import Store
from engine.kaggle.driver import machine
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.story import read_story
from tests.kaggle.driver.stand_ins import (
    URL,
    done_at_once,
    finished,
    level_where_this_is_kaggle,
    log_of,
    outcome,
    unfinished,
)
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script


@pytest.fixture
def without_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "complete", done_at_once)
    monkeypatch.setitem(machine.ACTIONS, "completing", done_at_once)  # type: ignore[index]


def code_of(done: Any) -> str:
    return "" if done.code == 0 else str(done.document["diagnostics"][0]["code"])


def test_one_command_ends_with_verified_evidence(
    run: Callable[..., Any], runspec: Callable[..., Any], project: Path, kaggle: Platform, tmp_path: Path
) -> None:
    """Pushed once, looked at until it is over, fetched, packed, verified; of Kaggle itself this would be L2. Again it is done."""
    kaggle.script(Script(files=finished(tmp_path), log=log_of, queued_polls=1, running_polls=1))
    done = run("--public", "--json")
    assert done.code == 0, done.err + done.out
    document = done.document
    assert (document["state"], document["version"], document["trust_level"]) == ("done", 1, "L0")
    manifest = json.loads((project / document["evidence"] / "run_manifest.json").read_text())
    named = [manifest[f"kaggle_{name}"] for name in ("notebook_url", "notebook_version", "run_id")]
    assert named == [URL, "1", "someone/runspec-toy-v1/1"]
    witness = ".runspec/kaggle/toy_v1/v1"
    verified = runspec("verify", document["package"], "--witness", witness, "--json")
    assert (verified.code, verified.document["trust_level"]) == (0, "L0")
    assert [check["detail"] for check in verified.document["checks"] if check["id"] in ("V18", "V19")] == [
        "witnessed by a server at 127.0.0.1, not Kaggle"
    ] * 2
    assert level_where_this_is_kaggle(document["package"], witness, kaggle) == "L2"
    assert run("--public", "--json").document == document, "what is done is done"
    assert [one.operation for one in kaggle.requests].count("SaveKernel") == 1


@pytest.mark.usefixtures("without_packing")
def test_as_many_sessions_as_the_run_needs(run: Callable[..., Any], project: Path, kaggle: Platform) -> None:
    """Each next one has the output of the one before as its source; the checkpoints stay on the platform."""
    first, carried = unfinished(2)
    second, _ = unfinished(3, carried)
    kaggle.script(Script(files=first, log=log_of), Script(files=second, log=log_of), Script(files=outcome, log=log_of))
    done = run("--json")
    assert done.code == 0, done.err
    versions = kaggle.kernels["someone/runspec-toy-v1"].versions
    assert [version.request.get("kernelDataSources") for version in versions] == [
        None,
        *[["someone/runspec-toy-v1"]] * 2,
    ]
    assert ["earlier='someone/runspec-toy-v1/2'" in version.text for version in versions] == [False, False, True]
    fetched = project / ".runspec" / "kaggle" / "toy_v1"
    assert [path.relative_to(fetched).as_posix() for path in sorted(fetched.glob("v*/output/session/*"))] == [
        "v1/output/session/session.json", "v2/output/session/session.json"
    ]  # fmt: skip
    assert [row["state"] for row in done.document["attempts"]] == ["continue", "continue", "done"]


@pytest.mark.usefixtures("without_packing")
@pytest.mark.parametrize(
    ("second", "code", "exit_code"), [("the same", "G260", 1), ("no parent", "G264", 5), ("nothing", "G264", 5)]
)
def test_a_chain_that_leads_nowhere(
    second: str, code: str, exit_code: int, run: Callable[..., Any], kaggle: Platform
) -> None:
    """A session that brought the run no further, one that began with something else, one that left nothing: an end, not a loop."""
    first, carried = unfinished(2)
    again, _ = unfinished(2, carried)
    hole, _ = unfinished(3)

    def stuck(version: Any) -> dict[str, str]:
        """The same standing as before, said by another session."""
        files = again(version)
        values = {**carried, "parent_sha256": json.loads(files["session/session.json"])["parent_sha256"]}
        return {**files, "session/session.json": sealed_text(values)}

    def nothing(version: Any) -> dict[str, str]:
        return outcome(version, "incomplete", 7)

    kaggle.script(
        Script(files=first, log=log_of),
        Script(files={"the same": stuck, "no parent": hole, "nothing": nothing}[second], log=log_of),
    )
    done = run("--json")
    assert (done.code, code_of(done)) == (exit_code, code)
    assert code_of(run("--json")) == code


def sealed_text(values: Any) -> str:
    from engine.canonical import pretty_json, sealed

    return pretty_json(sealed(values, "session_sha256"))


@pytest.mark.usefixtures("without_packing")
def test_a_newer_version_is_not_continued_from(run: Callable[..., Any], kaggle: Platform) -> None:
    """The next session would be given the stranger's output."""
    first, _ = unfinished(2)
    kaggle.script(Script(files=first, log=log_of, running_polls=1), Script(log=log_of))
    kaggle.fail("newer_version", times=1)
    assert code_of(run("--json")) == "G243"


@pytest.mark.usefixtures("without_packing")
@pytest.mark.parametrize(
    ("exit_code", "code", "ends_with"),
    [(1, "G240", 1), (2, "G246", 2), (4, "G247", 4), (5, "G248", 5), (8, "G249", 8), (3, "G240", 1)],
)
def test_the_exit_code_of_the_run_there_is_that_of_the_command_here(
    exit_code: int, code: str, ends_with: int, run: Callable[..., Any], kaggle: Platform
) -> None:
    """With the session's own last error and the class of the failure."""
    log = lambda version: [*log_of(version), "error[T114]: RESOURCE_EXHAUSTED: the device has no memory left"]  # noqa: E731
    kaggle.script(Script(files=lambda version: outcome(version, "failed", exit_code), log=log, state="ERROR"))
    done = run("--json")
    assert (done.code, code_of(done)) == (ends_with, code)
    told = done.document["diagnostics"][0]
    assert "oom): T114: RESOURCE_EXHAUSTED" in told["message"]
    assert "per_device_batch_size" in told["hint"]


@pytest.mark.usefixtures("without_packing")
def test_an_edited_notebook_is_noticed(run: Callable[..., Any], kaggle: Platform) -> None:
    """By the digest of the cells as they ran; recorded and said, and no reason to lose the run."""
    edited = "f" * 64
    kaggle.script(Script(files=lambda version: outcome(version, notebook_sha256_of_cells=edited), log=log_of))
    done = run("--json")
    assert done.code == 0
    assert done.document["attempts"][0]["notes"] == [
        f"the notebook's cells is not what was pushed: somebody has edited it (sha256 {edited[:12]}…)"
    ]


@pytest.mark.usefixtures("without_packing")
@pytest.mark.parametrize("what", ["run_version", "nonce"])
def test_an_output_of_another_push_is_never_used(what: str, run: Callable[..., Any], kaggle: Platform) -> None:
    """Exit code 5, whatever the session says of itself."""

    def strange(version: Any) -> dict[str, str]:
        files = outcome(version)
        name = "outcome.json" if what == "run_version" else "witness.json"
        return {**files, name: json.dumps({**json.loads(files[name]), what: "0" * 32})}

    kaggle.script(Script(files=strange, log=log_of))
    done = run("--json")
    assert (done.code, code_of(done)) == (5, "G256")


def test_evidence_that_does_not_verify_is_not_the_projects(
    run: Callable[..., Any], project: Path, kaggle: Platform, tmp_path: Path
) -> None:
    """The folder of the evidence stays as it was; fetching once more says the same, and pushing again is possible."""
    made = finished(tmp_path)

    def forged(version: Any) -> Any:
        return {**made(version), "evidence/eval_summary.json": "{}", "witness.json": outcome(version)["witness.json"]}

    kaggle.script(Script(files=forged, log=log_of))
    done = run("--json")
    assert (done.code, code_of(done)) == (5, "G263")
    assert not (project / "submission_runs").exists()


@pytest.mark.usefixtures("without_packing")
def test_pushed_looked_at_and_fetched_one_by_one(
    runspec: Callable[..., Any], project: Path, kaggle: Platform, clock: Any
) -> None:
    """The same states by single commands, by name of the run; what is not over is not fetched."""
    kaggle.script(Script(files=outcome, log=log_of, running_polls=3))
    assert code_of(runspec("kaggle", "fetch", "toy_v1", "--json")) == "G237"
    pushed = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json")
    assert (pushed.document["state"], pushed.document["url"]) == ("pushed", URL)
    assert runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json").document == pushed.document
    early = runspec("kaggle", "fetch", "toy_v1", "--json")
    assert (early.code, code_of(early)) == (8, "G236")
    there = runspec("kaggle", "status", "toy_v1", "--json").document
    assert (there["platform"]["phase"], there["quota"]["gpu"]["left_seconds"]) == ("running", 108000.0)
    assert "runspec nonce: " in runspec("kaggle", "logs", "toy_v1").out
    followed = runspec("kaggle", "logs", "toy_v1", "--follow", "--json")
    assert [line.partition(":")[0] for line in followed.document["lines"]] == [
        "runspec nonce",
        "train step 4/4 loss 0.25",
    ]
    fetched = runspec("kaggle", "fetch", "toy_v1", "--json")
    assert (fetched.code, fetched.document["state"]) == (0, "done")
    assert runspec("kaggle", "status", "--json").document["runs"][0]["state"] == "done"


@pytest.mark.usefixtures("without_packing")
def test_fetch_says_that_another_session_has_to_go_on(runspec: Callable[..., Any], kaggle: Platform) -> None:
    """Exit code 7, and what to type."""
    first, _ = unfinished(2)
    kaggle.script(Script(files=first, log=log_of), Script(files=outcome, log=log_of))
    runspec("kaggle", "push", "runspecs/toy.yaml", "train.seed=7", "--target", "cpu", "--session-limit", "1h")
    fetched = runspec("kaggle", "fetch", "toy_v1", "--json")
    assert (fetched.code, fetched.document["state"]) == (7, "continue")
    assert fetched.document["next"] == "runspec kaggle run runspecs/toy.yaml train.seed=7"
    assert runspec(*fetched.document["next"].split()[1:]).code == 0
    requests = [version.request for version in kaggle.kernels["someone/runspec-toy-v1"].versions]
    asked = [(request.get("machineShape"), request["sessionTimeoutSeconds"]) for request in requests]
    assert asked == [(None, 5400)] * 2, "with the options of the first push"


def test_the_status_names_the_models_that_are_attached(
    runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """What a session reads beside its notebook."""
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": b"{}"})
    spec = project / "runspecs" / "toy.yaml"
    model = {"kaggle": "google/gemma/transformers/2b/3"}
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "model": model}))
    assert runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--json").code == 0
    status = runspec("kaggle", "status", "toy_v1")
    assert "model       google/gemma/transformers/2b/3, attached" in status.out, status.out + status.err
    assert runspec("kaggle", "status", "toy_v1", "--json").document["model_sources"] == [
        "google/gemma/transformers/2b/3"
    ]


SHORT = "error[R114]: the session limit of 48s is too short"
GATED = "error[G174]: google/gemma-2b is gated on the hub, and there is no token"


@pytest.mark.parametrize(
    ("said", "told", "hint"),
    [
        ([SHORT, "error[G166]: runspec run ended with exit code 2: the lines above say why"], "limit): R114: the session limit of 48s",
         "a longer --session-limit: one train step and one save must fit"),
        ([GATED], "secret): G174: google/gemma-2b is gated", "model: {kaggle: …}, which needs no secret"),
    ],
)  # fmt: skip
def test_why_a_session_failed_is_said_with_its_cure(
    said: list[str], told: str, hint: str, run: Callable[..., Any], kaggle: Platform
) -> None:
    """The engine's own error of the log, and not the cell's that points at it."""
    failed = functools.partial(outcome, state="failed", exit_code=2)
    kaggle.script(Script(files=failed, log=lambda version: [*log_of(version), *said]))
    done = run("--json")
    (found,) = done.document["diagnostics"]
    assert (done.code, found["code"]) == (2, "G246")
    assert told in found["message"]
    assert hint in found["hint"]


@pytest.mark.slow
def test_anybodys_version_is_fetched_as_a_witness(
    run: Callable[..., Any], runspec: Callable[..., Any], project: Path, kaggle: Platform, tmp_path: Path
) -> None:
    """A reader names the notebook; another version never goes into the same folder."""
    kaggle.script(Script(files=finished(tmp_path), log=log_of))
    package = run("--public", "--json").document["package"]
    fetched = runspec("kaggle", "fetch", "someone/runspec-toy-v1/1", "--json")
    assert fetched.document["folder"] == "kaggle-someone-runspec-toy-v1-v1"
    assert level_where_this_is_kaggle(package, fetched.document["folder"], kaggle) == "L2"
    run("--public", "--again")
    other = runspec(
        "kaggle", "fetch", "someone/runspec-toy-v1/2", "--out", "kaggle-someone-runspec-toy-v1-v1", "--json"
    )
    assert code_of(other) == "G238"


@pytest.mark.usefixtures("without_packing")
def test_a_changed_run_spec_is_not_mixed_with_the_push_under_way(
    run: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """It waits, or is pushed as it is now when that is asked for."""
    kaggle.script(Script(files=outcome, log=log_of, running_polls=1))
    kaggle.fail("server_error", on="GetKernelSessionStatus")
    assert code_of(run("--json")) == "G208"
    kaggle.heal()
    assert code_of(run("train.seed=7", "--json")) == "G235"
    assert run("train.seed=7", "--again", "--json").document["version"] == 2
    assert run("train.seed=7", "--json").document["version"] == 2


@pytest.mark.usefixtures("without_packing")
def test_other_options_than_those_of_the_push_are_never_ignored(
    runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """Under way or done: they are left out, or the run is pushed with them; once, however often that is typed."""
    kaggle.script(Script(files=outcome, log=log_of, running_polls=2))
    push = functools.partial(runspec, "kaggle", "push", "runspecs/toy.yaml", "--json")
    assert push("--target", "cpu").code == 0
    last = read_story(project, "toy_v1").last
    assert last is not None
    as_it_is = (
        "--target",
        "cpu",
        "--session-limit",
        f"{last.facts['limit_seconds']}s",
        "--notebook",
        "someone/runspec-toy-v1",
    )
    assert push(*as_it_is).code == 0
    for words in (("--target", "kaggle-t4x2"), ("--public",), ("--session-limit", "1h"), ("--notebook", "another-one")):
        refused = push(*words)
        assert (refused.code, code_of(refused)) == (2, "G235")
        assert f"without {' '.join(words)}" in refused.document["diagnostics"][0]["message"]
    done = runspec("kaggle", "run", "runspecs/toy.yaml", "--json")
    assert (done.document["state"], done.document["version"]) == ("done", 1)
    assert code_of(runspec("run", "runspecs/toy.yaml", "--on", "kaggle-t4x2", "--json")) == "G235"
    again = [push("--target", "kaggle-t4x2", "--public", "--again").document["version"] for _ in range(2)]
    assert again == [2, 2]


@pytest.mark.usefixtures("without_packing")
def test_a_notebook_that_was_deleted_after_its_session_is_an_end(
    run: Callable[..., Any], runspec: Callable[..., Any], kaggle: Platform
) -> None:
    """Said as what it is, by each command; the run can be pushed again."""
    kaggle.script(Script(), Script(files=outcome, log=log_of))
    assert code_of(run("--json")) == "G253"
    kaggle.world.kernels.clear()
    for words in (
        ("kaggle", "fetch", "toy_v1"),
        ("kaggle", "fetch", "toy_v1"),
        ("run", "runspecs/toy.yaml", "--on", "kaggle-t4x2"),
    ):
        done = runspec(*words, "--json")
        assert (done.code, code_of(done)) == (8, "G242"), words
    assert runspec("kaggle", "status", "toy_v1").code == 0
    assert run("--again", "--json").document["state"] == "done"


@pytest.mark.usefixtures("without_packing")
def test_one_driver_at_a_time(run: Callable[..., Any], project: Path) -> None:
    """Exit code 6 for the second."""
    with Store(project).lock("kaggle-toy_v1"):
        assert (run("--json").code, code_of(run("--json"))) == (6, "R106")


@pytest.mark.usefixtures("without_packing")
def test_a_damaged_journal_is_told(run: Callable[..., Any], project: Path, kaggle: Platform) -> None:
    """What was pushed cannot be told from it; nothing is pushed."""
    kaggle.script(Script(files=outcome, log=log_of))
    run()
    journal = project / ".runspec" / "kaggle" / "toy_v1" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"pushed", b"pulled"))
    assert code_of(run("--json")) == "G271"
    assert len(kaggle.kernels["someone/runspec-toy-v1"].versions) == 1


@pytest.mark.usefixtures("without_packing")
def test_run_on_kaggle_is_the_same(runspec: Callable[..., Any], project: Path, kaggle: Platform) -> None:
    """``run --on``; options of this machine alone are refused."""
    kaggle.script(Script(files=outcome, log=log_of))
    assert code_of(runspec("run", "runspecs/toy.yaml", "--on", "kaggle", "--json")) == "G225"
    assert code_of(runspec("run", "runspecs/toy.yaml", "--on", "kagle", "--json")) == "U110"
    assert code_of(runspec("run", "runspecs/toy.yaml", "--on", "kaggle-t4x2", "--only", "train", "--json")) == "U103"
    assert runspec("run", "runspecs/toy.yaml", "--on", "kaggle-t4x2", "--json").document["state"] == "done"
    last = read_story(project, "toy_v1").last
    assert last is not None
    assert last.facts["request"]["machine_shape"] == "NvidiaTeslaT4"


@pytest.mark.usefixtures("without_packing")
def test_fetch_never_pushes(run: Callable[..., Any], runspec: Callable[..., Any], kaggle: Platform) -> None:
    """Not even what a killed driver has planned; what was pushed before is told as it was."""
    kaggle.script(Script(files=outcome, log=log_of))
    assert run().code == 0
    kaggle.fail("gpu_capacity")
    assert code_of(run("--again", "--json")) == "G230"
    assert runspec("kaggle", "fetch", "toy_v1", "--json").document["state"] == "refused"
    kaggle.heal()
    assert [one.operation for one in kaggle.requests].count("SaveKernel") == 2


@pytest.mark.usefixtures("without_packing")
def test_an_interruption_leaves_the_run_there_alone(
    run: Callable[..., Any], kaggle: Platform, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, what to type; the same command resumes with the same version."""

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    kaggle.script(Script(files=outcome, log=log_of, queued_polls=1, running_polls=1))
    with monkeypatch.context() as patch:
        patch.setattr(clock, "sleep", interrupted)
        stopped = run("--json")
    assert (stopped.code, code_of(stopped)) == (130, "U130")
    assert "runspec kaggle run runspecs/toy.yaml" in stopped.document["diagnostics"][0]["hint"]
    assert run("--json").document["version"] == 1
    assert len(kaggle.kernels["someone/runspec-toy-v1"].versions) == 1


def test_without_the_extra_it_says_what_to_install(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked of anybody."""
    monkeypatch.setitem(extras.EXTRAS, "kaggle", ("surely_not_installed",))
    done = run("--json")
    assert (done.code, code_of(done)) == (2, "X101")
    assert "pip install 'runspec-engine[kaggle]'" in done.document["diagnostics"][0]["hint"]


@pytest.mark.usefixtures("without_packing")
def test_an_output_that_is_listed_late_is_waited_for(
    run: Callable[..., Any], kaggle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is complete before its files are there to see; a minute is not the end of them."""
    outputs, looks = Kaggle.outputs, iter(range(100))
    monkeypatch.setattr(Kaggle, "outputs", lambda self, *about: ([], "") if next(looks) < 3 else outputs(self, *about))
    kaggle.script(Script(files=outcome, log=log_of))
    assert run("--json").document["state"] == "done"
