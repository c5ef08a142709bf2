"""The trainer in a process of its own: started, listened to, stopped, and explained when it dies.

The engine itself never imports JAX. A step hands a job to ``python -m engine.trainer <verb> JOB.json``; the
child prints one JSON event a line and dies with its parent (its standard input reaches the end of file).

    finished = run_trainer("train", job, ctx)          # the event {"event": "finished", "report": {...}}

    finished = ask_trainer("price", job, work=folder, cwd=root)      # the same, for who is no step

Raises what the child reported (its diagnostics, its exit code), RunFailed R201 where it was killed, R202 where
it ended without a word, and Interrupted where the person asked to stop.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engine.canonical import pretty_json, write_atomic
from engine.errors import (
    Diagnostic,
    EvidenceIncomplete,
    InputInvalid,
    Interrupted,
    LockBusy,
    RemoteRefused,
    RunFailed,
    RunspecError,
    Where,
)
from engine.redact import redact
from engine.steps import StepContext

POLL_SECONDS = 0.1
STDERR_TAIL_LINES = 12
CPP_FRAME = re.compile(r"\s*@\s+0x[0-9a-f]+")  # an address in JAX's own code, which tells nobody here anything
# Asked to stop, the child finishes its train step and saves; past this it is killed (nothing published is lost).
STOP_GRACE_SECONDS = 60.0
HUGE_PAGES = "glibc.malloc.hugetlb"  # a tunable of glibc 2.35 and later

LAST_WORDS = ("finished", "stopped", "error")
# What a process was at when it was killed -> what becomes of it, and what would need less memory.
GOES_ON = {
    "train": "it goes on from the last checkpoint",
    "generate": "the answers so far are kept",
    "download": "it goes on where the download stopped",
    "fetch": "it goes on where the download stopped",
}
NEEDS_LESS = {
    "train": "a smaller per_device_batch_size or seq_len needs less",
    "generate": "a smaller batch_size or max_new_tokens needs less",
    "price": "close other programs, or leave --exact out",
}

Event = Mapping[str, Any]
_BY_EXIT_CODE: dict[int, type[RunspecError]] = {
    1: RunFailed,
    2: InputInvalid,
    4: EvidenceIncomplete,
    6: LockBusy,
    8: RemoteRefused,
    130: Interrupted,
}


@dataclass(frozen=True, slots=True)
class Killed:
    """The caller asked for a SIGKILL (the smoke run does), and the child is gone."""

    event: Event
    signal: int


def run_trainer(verb: str, job: Mapping[str, Any], ctx: StepContext) -> Event:
    """Run a job to its end and return its ``finished`` event."""
    outcome = drive_trainer(verb, job, ctx, kill_on=None)
    assert not isinstance(outcome, Killed)  # nobody asked for it
    return outcome


def drive_trainer(verb: str, job: Mapping[str, Any], ctx: StepContext, *, kill_on: str | None) -> Event | Killed:
    """Run a job; where an event named ``kill_on`` arrives, SIGKILL the child and say so."""
    talk = _Talk(ctx.emit, ctx.stopping, kill_on)
    return _converse(verb, job, ctx.work, ctx.spec.root, talk)


def ask_trainer(
    verb: str, job: Mapping[str, Any], *, work: Path, cwd: Path, stopping: Callable[[], bool] = lambda: False
) -> Event:
    """Run a job that no step stands behind, without progress, and return its ``finished`` event."""
    outcome = _converse(verb, job, work, cwd, _Talk(lambda _: None, stopping, None))
    assert not isinstance(outcome, Killed)  # nobody asked for it
    return outcome


@dataclass(frozen=True, slots=True)
class _Talk:
    """What is done while the child works."""

    emit: Callable[[Event], None]
    stopping: Callable[[], bool]
    kill_on: str | None


def _converse(verb: str, job: Mapping[str, Any], work: Path, cwd: Path, talk: _Talk) -> Event | Killed:
    job_path = work / f"{verb}_job.json"
    write_atomic(job_path, pretty_json(dict(job)))
    stderr_path = work / f"{verb}_stderr.log"
    with stderr_path.open("wb") as stderr, _spawn(verb, job_path, cwd, stderr) as child:
        try:
            outcome = _listen(child, talk)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    if isinstance(outcome, Killed):
        return outcome
    if child.returncode == -signal.SIGABRT and job.get("cluster"):
        raise RunFailed(
            "R204",
            "the train process was ended by JAX: another process of the cluster is gone, or never joined",
            hint="look at the other machines; then run the same command on all of them again: it goes on from the last "
            f"checkpoint{_tail(stderr_path)}",
        )
    if child.returncode == -signal.SIGTERM and talk.stopping():  # we asked before it had learnt to listen
        raise Interrupted("R203", f"stopped before the {verb} process had begun")
    return _conclude(verb, child.returncode, outcome, stderr_path)


def trainer_environment() -> dict[str, str]:
    """The environment of a trainer's process: ours, the package where it can be found, and huge pages for its arrays.

    glibc gives each large array back to the kernel and takes new pages for the next one, 380,000 page faults a train step of
    the benchmarks' model on a CPU; with pages of 2 MiB they are 1,300, and the step is shorter by an eighth
    (docs/memory.md). What the person has set goes before; other C libraries do not read the variable.
    """
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES not in tunables:
        tunables = ":".join(filter(None, [tunables, f"{HUGE_PAGES}=1"]))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "GLIBC_TUNABLES": tunables,
    }


def trainer_command(verb: str, job: Path) -> list[str]:
    """What is started."""
    return [sys.executable, "-m", "engine.trainer", verb, str(job)]


def _spawn(verb: str, job: Path, cwd: Path, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        trainer_command(verb, job),
        stdin=subprocess.PIPE,  # never written to: its end of file tells the child that we are gone
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
        env=trainer_environment(),
        start_new_session=True,  # a Ctrl-C in the terminal reaches us alone; we ask the child to stop
    )


def _listen(child: subprocess.Popen[bytes], talk: _Talk) -> Event | Killed | None:
    """Pass events on until the child ends. Returns its last word (finished, stopped, error), else its last event."""
    last: Event | None = None
    stop_asked_at: float | None = None
    assert child.stdout is not None
    for event in _events(child.stdout):
        if event is None:  # nothing new within POLL_SECONDS
            stop_asked_at = _ask_to_stop(child, talk.stopping, stop_asked_at)
            continue
        if last is None or last["event"] not in LAST_WORDS:
            last = event
        talk.emit(event)
        if event["event"] == talk.kill_on:
            child.send_signal(signal.SIGKILL)
            return Killed(event, child.wait() * -1)
        stop_asked_at = _ask_to_stop(child, talk.stopping, stop_asked_at)
    child.wait()
    return last


def _ask_to_stop(child: subprocess.Popen[bytes], stopping: Callable[[], bool], asked_at: float | None) -> float | None:
    if not stopping():
        return None
    if asked_at is None:
        child.send_signal(signal.SIGTERM)
        return time.monotonic()
    if time.monotonic() - asked_at > STOP_GRACE_SECONDS:
        child.kill()
    return asked_at


def _events(stream: IO[bytes]) -> Iterator[Event | None]:
    """The child's events as they come; None whenever it is silent for POLL_SECONDS."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the torn last line of a killed child
        if isinstance(event, dict) and "event" in event:
            yield event


def _conclude(verb: str, returncode: int, last: Event | None, stderr: Path) -> Event:
    """Turn how the child ended into its ``finished`` event or the right exception."""
    if last is not None and last["event"] == "error":
        raise _reported(last)
    if last is not None and last["event"] == "finished" and returncode == 0:
        return last
    if last is not None and last["event"] == "stopped":
        if "total" in last:
            raise Interrupted("R203", f"stopped after {last['done']} of {last['total']} answers; they are kept")
        raise Interrupted("R203", f"stopped at train step {last.get('train_step', '?')}; a checkpoint was saved")
    tail, job = _tail(stderr), "download" if last is not None and last["event"] == "download" else verb
    again = "run the same command again" + (f": {GOES_ON[job]}" if job in GOES_ON else "")
    if returncode < 0:
        name = signal.Signals(-returncode).name
        if job in NEEDS_LESS:
            again = f"the system kills the largest process when memory runs out: {NEEDS_LESS[job]}\n{again}"
        raise RunFailed("R201", f"the {verb} process was killed by {name}", hint=again + tail)
    raise RunFailed(
        "R202",
        f"the {verb} process ended with exit status {returncode} and no word why",
        hint=again + tail,
    )


def _reported(event: Event) -> RunspecError:
    diagnostics = [_diagnostic(row) for row in event["diagnostics"]]
    return _BY_EXIT_CODE.get(int(event["exit_code"]), RunFailed).of(diagnostics)


def _diagnostic(row: Mapping[str, Any]) -> Diagnostic:
    where = None
    if row.get("file"):
        where = Where(row["file"], row.get("line") or 0, row.get("column") or 0, path=row.get("path") or "")
    return Diagnostic(row["code"], row["message"], where, row.get("hint"), row.get("severity", "error"))


def _tail(stderr: Path) -> str:
    text = stderr.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if not CPP_FRAME.match(line)][-STDERR_TAIL_LINES:]
    return "\nits last words:\n" + "\n".join(f"  {redact(line)}" for line in lines) if lines else ""
