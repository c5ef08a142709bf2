"""Laws of the runner: failures are journaled, interrupts lose nothing, faults of a handler are explained."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from engine import interrupt
from engine.artifacts.journal import journal_path, read_journal
from engine.artifacts.store import Store
from engine.canonical import pretty_json, unsealed
from engine.errors import InputInvalid, Interrupted, LockBusy, RunFailed
from engine.pipeline import stop as stop_module
from engine.pipeline.finish import replace_evidence
from engine.pipeline.plan import Selection
from engine.pipeline.runner import execute
from engine.runspec.model import Spec
from engine.steps import StepContext, StepResult

GROW, PRESS = ("grow", "grow", {}), ("press", "press", {})


def run(spec: Spec, kinds: Any, console: Any) -> list[str]:
    selection = Selection(stop=spec.steps[-1].id)
    return list(execute(spec, kinds, console=console, command="runspec run toy.yaml", selection=selection).ran)


def events(spec: Spec) -> list[str]:
    return [row["event"] for row in read_journal(journal_path(spec.root / ".runspec", spec.run_version))]


def test_a_failed_step_is_journaled_and_the_next_run_skips_the_finished_ones(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any
) -> None:
    def fail(ctx: StepContext) -> None:
        raise RunFailed("R999", "the press is broken")

    spec = make_spec(GROW, PRESS)
    with pytest.raises(RunFailed, match="broken"):
        run(spec, {**kinds, "press": make_handler("press", ("apple",), "juice", hook=fail)}, console)
    assert events(spec) == ["run_started", "step_started", "step_finished", "step_started", "step_failed"]
    assert run(spec, kinds, console) == ["press"]


def test_work_is_resumed_after_a_change_that_affects_no_state(
    make_spec: Callable[..., Spec], make_handler: Any, console: Any
) -> None:
    """An argument that affects no state may change between two attempts: the fingerprint changes, the work folder stays."""
    work_files: list[list[str]] = []

    def attempt(ctx: StepContext) -> None:
        work_files.append(sorted(path.name for path in ctx.work.iterdir()))
        (ctx.work / "checkpoint").write_text("")
        if len(work_files) < 4:
            raise RunFailed("R999", "killed")

    keys = {"keep": {"type": "integer", "x-affects": ["files"]}, "seed": {"type": "integer"}}
    schema = {"type": "object", "additionalProperties": False, "properties": keys}
    kinds = {"grow": make_handler("grow", (), "apple", hook=attempt, schema=schema)}
    for args in ({"keep": 1, "seed": 1}, {"keep": 2, "seed": 1}, {"keep": 2, "seed": 2}):
        with pytest.raises(RunFailed, match="killed"):
            run(make_spec(("grow", "grow", args)), kinds, console)
    assert work_files == [[], ["checkpoint"], []]
    assert run(make_spec(("grow", "grow", {"keep": 3, "seed": 2})), kinds, console) == ["grow"]
    assert run(make_spec(("grow", "grow", {"keep": 3, "seed": 2})), kinds, console) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_cleanly_and_says_how_to_resume(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any, number: int
) -> None:
    def interrupted(ctx: StepContext) -> None:
        os.kill(os.getpid(), number)
        assert ctx.stopping()
        raise Interrupted("R203", "stopped at train step 7")

    spec = make_spec(GROW, PRESS)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may be run with nohup
    try:
        with pytest.raises(Interrupted) as caught:
            run(spec, {**kinds, "press": make_handler("press", ("apple",), "juice", hook=interrupted)}, console)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "resume with: runspec run toy.yaml" in str(caught.value)
    assert "train step 7" in str(caught.value)
    assert caught.value.exit_code == 130
    assert events(spec)[-1] == "run_interrupted"
    assert run(spec, kinds, console) == ["press"]


def test_a_repeated_signal_is_one_stop_request(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` signals its child and then its group; a second request, later, stops at once."""

    def interrupted(ctx: StepContext) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert ctx.stopping()
        raise Interrupted("R203", "stopped at train step 7")

    pressed = {**kinds, "press": make_handler("press", ("apple",), "juice", hook=interrupted)}
    with pytest.raises(Interrupted, match="train step 7"):
        run(make_spec(GROW, PRESS), pressed, console)
    monkeypatch.setattr(stop_module, "REPEATED_SIGNAL_SECONDS", 0.0)
    with pytest.raises(Interrupted) as caught:
        run(make_spec(GROW, PRESS), pressed, console)
    assert "train step 7" not in str(caught.value)


def test_the_signal_handler_writes_nothing() -> None:
    """It may come in the middle of a line of the display or the log, whose locks are held: the next poll says it, once."""
    said: list[str] = []
    with stop_module.stop_on_signals(said.append) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert said == []
        assert [stop(), stop()] == [True, True]
    assert said == [stop_module.STOPPING]


A_BLOCKED_LINE = """
import os, signal, sys, threading
from engine.display.plain import PlainConsole
from engine.pipeline.stop import stop_on_signals
console = PlainConsole()
with stop_on_signals(console.note) as stop:
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    print("ready", flush=True)
    for _ in range(200):  # more than a pipe holds: the signal comes in the middle of a write
        console.note("x" * 1000)
    assert stop()
"""


def test_a_stop_request_in_the_middle_of_a_line(repository: Path) -> None:
    """The stream of standard error is held by the line that waits for its reader: a handler that writes is a RuntimeError."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", A_BLOCKED_LINE], cwd=repository, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.6)
        _, lines = process.communicate()
    assert process.returncode == 0, lines[-2000:]
    assert lines.splitlines()[-1] == f"      {stop_module.STOPPING}"


def test_a_second_signal_that_an_import_turned_into_another_error_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python makes a RuntimeError of a KeyboardInterrupt in ``__set_name__``: cli asks ``requested`` then."""
    monkeypatch.setattr(stop_module, "REPEATED_SIGNAL_SECONDS", 0.0)
    monkeypatch.setattr(interrupt, "_received", [])
    with stop_module.stop_on_signals(lambda _: None):
        signal.raise_signal(signal.SIGTERM)
        assert not interrupt.requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert interrupt.requested()


def test_what_nohup_ignores_stays_ignored(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any
) -> None:
    """A terminal that is closed stops a run, but not one that was started with nohup."""
    spec = make_spec(GROW, PRESS)
    hung_up = make_handler("grow", (), "apple", hook=lambda ctx: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(spec, {**kinds, "grow": hung_up}, console) == ["grow", "press"]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_missing_template_is_found_before_the_first_step(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    """E106 at once, not after the training step."""
    spec = make_spec(GROW, PRESS)
    files = (*spec.evidence.files, "notes.txt")
    spec = dataclasses.replace(spec, evidence=dataclasses.replace(spec.evidence, files=files))
    with pytest.raises(InputInvalid, match="no template notes"):
        execute(spec, kinds, console=console, command="runspec run toy.yaml")
    assert events(spec) == []


def test_a_secret_in_the_run_spec_is_found_before_the_first_step(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    """X341 with file and line: its evidence could not be written, hours later."""
    spec, token = make_spec(GROW, PRESS), "hf_" + "Ab1" * 10
    spec = dataclasses.replace(spec, data=spec.data + f"\n# {token}\n".encode())
    with pytest.raises(InputInvalid) as caught:
        execute(spec, kinds, console=console, command="runspec run toy.yaml")
    line = spec.data.count(b"\n")
    assert [row.code for row in caught.value.diagnostics] == ["X341"]
    assert f"{spec.path.name}:{line} looks like a secret (a Hugging Face token)" in str(caught.value)
    assert token not in str(caught.value)
    assert events(spec) == []


def test_a_secret_is_named_by_its_place_in_the_run_spec_where_no_step_runs(make_spec: Callable[..., Spec]) -> None:
    """X341 before evidence is rendered again, not X340 for the copy of it: the person has the run-spec to edit."""
    spec, token = make_spec(GROW, PRESS), "hf_" + "Ab1" * 10
    spec = dataclasses.replace(spec, data=spec.data + f"\n# {token}\n".encode())
    with pytest.raises(InputInvalid) as caught:
        replace_evidence(spec, cast("Any", None), cast("Any", None))
    assert [row.code for row in caught.value.diagnostics] == ["X341"]


def test_a_step_that_does_not_notice_is_stopped_before_the_next_one(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any
) -> None:
    spec = make_spec(GROW, PRESS)
    unaware = make_handler("grow", (), "apple", hook=lambda ctx: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="between two steps"):
        run(spec, {**kinds, "grow": unaware}, console)
    assert run(spec, kinds, console) == ["press"]


def test_two_runs_at_once_are_refused(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any
) -> None:
    inside, release = threading.Event(), threading.Event()

    def wait(ctx: StepContext) -> None:
        inside.set()
        release.wait(10)

    spec = make_spec(GROW, PRESS)
    slow = {**kinds, "grow": make_handler("grow", (), "apple", hook=wait)}
    first = threading.Thread(target=run, args=(spec, slow, console))
    first.start()
    assert inside.wait(10)
    with pytest.raises(LockBusy):
        run(spec, kinds, console)
    release.set()
    first.join()
    assert run(spec, kinds, console) == []


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "R101"), (errno.EACCES, "R102")])
def test_a_full_disk_inside_a_step_is_explained(
    make_spec: Callable[..., Spec], make_handler: Any, kinds: Any, console: Any, number: int, code: str
) -> None:
    def full(ctx: StepContext) -> None:
        raise OSError(number, os.strerror(number), "weights.bin")

    spec = make_spec(GROW)
    with pytest.raises(RunFailed) as caught:
        run(spec, {"grow": make_handler("grow", (), "apple", hook=full)}, console)
    assert caught.value.code == code
    assert run(spec, kinds, console) == ["grow"]


def test_a_handler_that_forgets_a_file_is_named(
    make_spec: Callable[..., Spec], make_handler: Any, console: Any
) -> None:
    lazy = make_handler("grow", (), "apple", function=lambda ctx: StepResult())
    with pytest.raises(RunFailed, match=r"did not write apple\.json"):
        run(make_spec(GROW), {"grow": lazy}, console)


def test_a_changed_input_is_noticed_before_it_is_used(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    spec = make_spec(GROW, PRESS)
    execute(spec, kinds, console=console, command="c", selection=Selection(only="grow"))
    store = Store(spec.root)
    path = next((store.root / "store" / "apple").rglob("apple.json"))
    path.write_text(path.read_text().replace("{", "[", 1))
    with pytest.raises(RunFailed) as caught:
        run(spec, kinds, console)
    assert "R105" in str(caught.value)
    assert "--force grow" in str(caught.value)
    execute(spec, kinds, console=console, command="c", selection=Selection(only="grow", force=frozenset({"grow"})))
    assert run(spec, kinds, console) == ["press"]


def test_only_refuses_where_its_input_was_never_made(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    with pytest.raises(RunFailed, match='"press" needs "grow"'):
        execute(make_spec(GROW, PRESS), kinds, console=console, command="c", selection=Selection(only="press"))


def test_a_run_with_nothing_to_do_adds_nothing_to_the_journal(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    spec = make_spec(GROW, PRESS)
    run(spec, kinds, console)
    before = events(spec)
    run(spec, kinds, console)
    assert events(spec) == before


def test_artifacts_of_another_run_version_are_reused(make_spec: Callable[..., Spec], kinds: Any, console: Any) -> None:
    run(make_spec(GROW, PRESS), kinds, console)
    other = make_spec(GROW, PRESS, run_version="toy_v2")
    assert run(other, kinds, console) == []
    assert events(other) == ["run_started", "step_reused", "step_reused"]


def without_seal(spec: Spec, type_: str) -> Any:
    """Make the manifest of the one artifact of this type that of an engine before the seal; its path."""
    path = next((spec.root / ".runspec" / "store" / type_).rglob("artifact.json"))
    values = unsealed(path.read_bytes(), "manifest_sha256")
    assert values is not None
    path.write_text(pretty_json(values))
    return path


def test_an_artifact_of_an_earlier_engine_is_taken_over_once_and_that_is_said(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    """Nothing is computed again; the next run has nothing to say."""
    spec = make_spec(GROW, PRESS)
    run(spec, kinds, console)
    path = without_seal(spec, "apple")
    console.lines.clear()
    assert run(spec, kinds, console) == []
    (said,) = [line for line in console.lines if line.startswith("note")]
    assert said.startswith('note step "grow": an earlier engine made its apple, without a digest of artifact.json')
    assert unsealed(path.read_bytes(), "manifest_sha256") is not None
    console.lines.clear()
    assert run(spec, kinds, console) == []
    assert [line for line in console.lines if line.startswith("note")] == []


def test_an_artifact_of_an_earlier_engine_is_not_taken_over_where_a_file_has_changed(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    spec = make_spec(GROW, PRESS)
    run(spec, kinds, console)
    path = without_seal(spec, "apple")
    file = path.parent / "apple.json"
    file.write_bytes(file.read_bytes().replace(b"{", b"[", 1))
    before = path.read_bytes()
    with pytest.raises(RunFailed) as caught:
        run(spec, kinds, console)
    assert caught.value.code == "R105"
    assert path.read_bytes() == before


def test_a_damaged_artifact_is_made_again_and_the_reason_is_said(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    spec = make_spec(GROW, PRESS)
    run(spec, kinds, console)
    path = next((spec.root / ".runspec" / "store" / "juice").rglob("artifact.json"))
    path.write_text(path.read_text().replace('"name": "juice"', '"name": "jvice"'))
    console.lines.clear()
    assert run(spec, kinds, console) == ["press"]
    assert 'note step "press": what is stored of it is damaged: artifact.json is not what was written' in console.lines
    found = next((spec.root / ".runspec" / "store" / "juice").rglob("artifact.json"))
    assert '"name": "juice"' in found.read_text()


def test_without_its_damaged_journal_a_run_computes_nothing_again(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    """R111 says what to type; after that the artifacts are recorded anew."""
    spec = make_spec(GROW, PRESS)
    run(spec, kinds, console)
    path = journal_path(spec.root / ".runspec", spec.run_version)
    path.write_bytes(path.read_bytes().replace(b"step_finished", b"step_finishes", 1))
    with pytest.raises(RunFailed) as caught:
        run(spec, kinds, console)
    assert caught.value.code == "R111"
    assert f"{path} is damaged: line 3: not what was written" in str(caught.value)
    assert f"mv {path} {path}.damaged" in str(caught.value)
    path.rename(f"{path}.damaged")
    assert run(spec, kinds, console) == []
    assert events(spec) == ["run_started", "step_reused", "step_reused"]


def test_what_a_killed_run_left_is_gone_after_the_next(
    make_spec: Callable[..., Spec], kinds: Any, console: Any
) -> None:
    """In the staging area, beside the journal, in the cache."""
    spec = make_spec(GROW)
    store = Store(spec.root)
    run(spec, kinds, console)
    left = [store.root / "staging" / "discarded-old" / "x", store.root / "staging" / ("e" * 32) / "work" / "x",
            store.cache / ".digests.json.0123abcd.tmp", journal_path(store.root, "toy_v1").with_name(".j.0123abcd.tmp")]  # fmt: skip
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert run(spec, kinds, console) == []
    assert [path for path in left if path.exists()] == []
    assert list((store.root / "staging").iterdir()) == []


def test_a_process_of_an_earlier_attempt_that_wakes_writes_into_no_artifact(
    make_spec: Callable[..., Spec], make_handler: Any, console: Any
) -> None:
    """It was frozen (SIGSTOP) while it worked, its run ended; it wakes in the middle of the next attempt, and goes on writing."""
    late = "import pathlib, sys, time\nprint(flush=True)\ntime.sleep(0.2)\npathlib.Path(sys.argv[1]).parent.mkdir(exist_ok=True)\npathlib.Path(sys.argv[1]).write_text('late')\n"
    orphans: list[subprocess.Popen[bytes]] = []

    def attempt(ctx: StepContext) -> None:
        if not orphans:
            orphan = subprocess.Popen([sys.executable, "-c", late, str(ctx.out / "late.txt")], stdout=subprocess.PIPE)
            orphans.append(orphan)
            assert orphan.stdout is not None
            orphan.stdout.readline()
            orphan.send_signal(signal.SIGSTOP)
            raise RunFailed("R999", "killed")
        orphans[0].send_signal(signal.SIGCONT)
        assert orphans[0].wait(20) == 0

    spec, kinds = make_spec(GROW), {"grow": make_handler("grow", (), "apple", hook=attempt)}
    with pytest.raises(RunFailed, match="killed"):
        run(spec, kinds, console)
    assert run(spec, kinds, console) == ["grow"]
    orphans[0].communicate()
    home = next((spec.root / ".runspec" / "store" / "apple").iterdir())
    assert sorted(path.name for path in home.iterdir()) == ["apple.json", "artifact.json"]
    assert list((spec.root / ".runspec" / "staging").iterdir()) == []
