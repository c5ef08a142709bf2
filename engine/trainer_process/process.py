"""Starts the trainer in a process of its own, passes its events on, stops it, and explains how it ended.

The engine itself never imports JAX. It hands a job to ``python -m engine.trainer VERB JOB.json``; the child prints one
event a line and dies with its parent (its standard input reaches the end of file).

    host = Host(work=folder, cwd=root, emit=display.event, stopping=stop)
    report = run_trainer(job, host)              # the report of the event ``finished``
    event = kill_trainer_at(ReadyForKill, job, host)

    with prepared(next_job, host) as trainer:    # imports its libraries while another trainer works
        run_trainer(job, host)
        report = run_trainer(trainer, host)      # now it begins

Raises what the child reported (its diagnostics, its exit code), RunFailed R201 where it was killed, R202 where it ended
without a last event, R207 where it sent an event that this engine does not know, and Interrupted after a stop request.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from engine.canonical import pretty_json, readable, write_atomic
from engine.errors import (
    DeadlineReached,
    Diagnostic,
    EvidenceIncomplete,
    InputInvalid,
    Interrupted,
    LockBusy,
    NothingDone,
    RemoteRefused,
    RunFailed,
    RunspecError,
    Where,
)
from engine.protocol.codec import FieldError
from engine.protocol.deadline import steady_seconds
from engine.protocol.events.base import Event, Failed, Finished
from engine.protocol.events.generation import GenerationStopped
from engine.protocol.events.inputs import Download
from engine.protocol.events.table import LAST_EVENTS, parse_event
from engine.protocol.events.training import TrainStopped
from engine.protocol.jobs import WHEN_TOLD, FollowJob, Job, TrainJob, job_json
from engine.redact import redact
from engine.trainer_process.host import Host

E = TypeVar("E", bound=Event)

POLL_SECONDS = 0.1
STDERR_TAIL_LINES = 12
CPP_FRAME = re.compile(r"\s*@\s+0x[0-9a-f]+")  # a stack frame inside JAX: of no use to a user
# Tunables of glibc, the first of 2.35 and later.
HUGE_PAGES, ONE_ARENA = "glibc.malloc.hugetlb", "glibc.malloc.arena_max"

# What a killed process was doing -> what the next attempt resumes from, and what would need less memory.
RESUMES = {
    "train": "it resumes from the last checkpoint",
    "generate": "the answers so far are kept",
    "download": "it resumes where the download stopped",
    "fetch": "it resumes where the download stopped",
}
NEEDS_LESS = {
    "train": "a smaller per_device_batch_size or seq_len needs less",
    "generate": "a smaller batch_size or max_new_tokens needs less",
    "price": "close other programs, or leave --exact out",
}

_BY_EXIT_CODE: dict[int, type[RunspecError]] = {
    1: RunFailed,
    2: InputInvalid,
    4: EvidenceIncomplete,
    6: LockBusy,
    7: DeadlineReached,
    8: RemoteRefused,
    130: Interrupted,
}


@dataclass(frozen=True, slots=True)
class EarlyTrainer:
    """A trainer's process that begins when it is told: see :func:`prepared`."""

    job: Job
    child: subprocess.Popen[bytes]
    stderr: Path

    def begin(self) -> None:
        """Told. One that has ended already says why in its last event."""
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):
            os.write(self.child.stdin.fileno(), b"begin\n")  # unbuffered: closing writes no rest


def run_trainer(job: Job | EarlyTrainer, host: Host) -> Mapping[str, Any]:
    """Run a job to its end and return its report."""
    finished = _run(job, host, kill_at=None)
    assert isinstance(finished, Finished)
    return finished.report


def kill_trainer_at(kind: type[E], job: Job, host: Host) -> E | None:
    """Run a job until an event of this kind arrives, and SIGKILL it there. None where it ended before."""
    event = _run(job, host, kill_at=kind)
    return event if isinstance(event, kind) else None


@contextmanager
def prepared(job: Job, host: Host, *, name: str | None = None) -> Iterator[EarlyTrainer]:
    """The job's process, started early: it imports its libraries (200 MB of memory), touches no device, and waits to be told.

    Killed at the end of the context, whatever ended it. ``name``: of its files, where another process of this verb has its own.
    """
    with _started(job, host, name or job.verb, when=(WHEN_TOLD,)) as (child, stderr):
        yield EarlyTrainer(job, child, stderr)


def _refuse_undecodable(text: str) -> None:
    """X324: XLA and the library of the checkpoints take no path with bytes that are not UTF-8, and say so hours later."""
    for line in text.split("\n"):
        if readable(line) != line:
            raise InputInvalid(
                "X324", f"a path that training needs has bytes that are not UTF-8: {readable(line.strip())}",
                hint="its libraries take no such path: rename the folder (mv), then run again",
            )  # fmt: skip


@contextmanager
def _started(
    job: Job, host: Host, name: str, when: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """(the job's process, the file of its standard error); it does not survive the context."""
    text = pretty_json(job_json(job))
    _refuse_undecodable(f"{host.work}\n{text}")
    job_path, stderr_path = host.work / f"{name}_job.json", host.work / f"{name}_stderr.log"
    write_atomic(job_path, text)
    with stderr_path.open("wb") as stderr, _spawn(job.verb, job_path, host.cwd, stderr, when) as child:
        try:
            yield child, stderr_path
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()


def _run(job: Job | EarlyTrainer, host: Host, kill_at: type[Event] | None) -> Event:
    """The event at which the child was killed on purpose, or ``finished``."""
    if isinstance(job, EarlyTrainer):
        job.begin()
        return _ended(job.job, job.child, job.stderr, host, _listen(job.child, host, kill_at), kill_at)
    with _started(job, host, job.verb) as (child, stderr):
        last = _listen(child, host, kill_at)
    return _ended(job, child, stderr, host, last, kill_at)


def _ended(
    job: Job,
    child: subprocess.Popen[bytes],
    stderr_path: Path,
    host: Host,
    last: Event | None,
    kill_at: type[Event] | None,
) -> Event:
    """What the end of the child means, after its last event."""
    if kill_at is not None and isinstance(last, kill_at):
        return last
    in_cluster = isinstance(job, TrainJob | FollowJob) and job.cluster is not None
    if child.returncode == -signal.SIGABRT and in_cluster:
        raise RunFailed(
            "R204",
            "JAX ended the train process: another process of the cluster has died, or never joined",
            hint="look at the other machines; then run the same command again on all of them: it resumes from the last "
            f"checkpoint{_tail(stderr_path)}",
        )
    if child.returncode == -signal.SIGTERM and host.stopping():  # stopped before its signal handler was installed
        raise Interrupted("R203", f"stopped before the {job.verb} process had begun")
    if child.returncode == -signal.SIGKILL and _is_over(host):
        raise Interrupted("R203", f"the {job.verb} process did not stop before the session ended, and was killed")
    return _conclude(job.verb, child.returncode, last, stderr_path)


def trainer_environment() -> dict[str, str]:
    """The environment of a trainer's process: this process's, where the package is, no working folder, and huge pages for arrays.

    The trainer works in the project's folder, and what lies there is not a library: a project may have an engine.py, a random.py
    or a numpy.py of its own. Installed packages, editable ones too, and the folders of PYTHONPATH are found as always.

    glibc gives each large array back to the kernel and takes new pages for the next one, 380,000 page faults a train step of
    the benchmarks' model on a CPU; with pages of 2 MiB they are 1,300, and the step is shorter by an eighth
    (docs/explanation/memory.md). One arena: see :mod:`engine.trainer.host_memory`. A value that the user has set wins; other C
    libraries do not read the variable.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    ours = [f"{name}=1" for name in (HUGE_PAGES, ONE_ARENA) if name not in tunables]
    tunables = ":".join(filter(None, [tunables, *ours]))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(_import_path()),
        "PYTHONSAFEPATH": "1",  # for its own children, too
        "PYTHONUNBUFFERED": "1",
        "GLIBC_TUNABLES": tunables,
    }


def _import_path() -> list[str]:
    """The package's folder where nothing is installed, and the absolute folders of PYTHONPATH.

    An empty entry there (``PYTHONPATH=:/x``) means the working folder, which is another one in the child. A folder of installed
    packages on this list would come before the standard library.
    """
    package = str(Path(__file__).resolve().parents[2])
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    named = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return [package] * (package not in installed) + named


def trainer_command(verb: str, job: Path) -> list[str]:
    """The command line of the child."""
    return [sys.executable, "-m", "engine.trainer", verb, str(job)]


def _spawn(verb: str, job: Path, cwd: Path, stderr: IO[bytes], when: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*trainer_command(verb, job), *when],
        stdin=subprocess.PIPE,  # its end of file tells the child that this process has died
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
        env=trainer_environment(),
        start_new_session=True,  # a Ctrl-C in the terminal reaches this process alone, which then stops the child
    )


def _listen(child: subprocess.Popen[bytes], host: Host, kill_at: type[Event] | None) -> Event | None:
    """Pass events on until the child ends. Returns its final event (LAST_EVENTS), else the last one."""
    last: Event | None = None
    stop_asked_at: float | None = None
    assert child.stdout is not None
    for event in _events(child.stdout):
        if event is None:  # no event within POLL_SECONDS
            stop_asked_at = _ask_to_stop(child, host, stop_asked_at)
            continue
        if not isinstance(last, LAST_EVENTS):
            last = event
        host.emit(event)
        if kill_at is not None and isinstance(event, kill_at):
            child.send_signal(signal.SIGKILL)
            child.wait()
            return event
        stop_asked_at = _ask_to_stop(child, host, stop_asked_at)
    child.wait()
    return last


def _ask_to_stop(child: subprocess.Popen[bytes], host: Host, asked_at: float | None) -> float | None:
    """SIGTERM at a stop request, SIGKILL after the grace time. Returns the time of the SIGTERM."""
    if not host.stopping():
        return None
    if asked_at is None:
        child.send_signal(signal.SIGTERM)
        return time.monotonic()
    if time.monotonic() - asked_at > host.grace_seconds or _is_over(host):
        child.kill()
    return asked_at


def _is_over(host: Host) -> bool:
    return host.kill_at is not None and steady_seconds() > host.kill_at


def _events(stream: IO[bytes]) -> Iterator[Event | None]:
    """The child's events as they come; None whenever it is silent for POLL_SECONDS."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        with suppress(ValueError, OSError):  # closed under it, where an event was refused
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
            values = json.loads(line)
        except ValueError:
            continue  # the incomplete last line of a killed child
        yield _event(values)


def _event(values: object) -> Event:
    """Raises RunFailed R207 for an event or a field that this engine does not know."""
    try:
        if not isinstance(values, dict):
            raise FieldError(f"an event must be a mapping, and is {values!r}")
        return parse_event(values)
    except FieldError as error:
        raise RunFailed(
            "R207",
            f"the trainer sent an event that this engine does not understand: {error}",
            hint="engine and trainer have different versions: reinstall runspec-engine",
        ) from error


def _conclude(verb: str, returncode: int, last: Event | None, stderr: Path) -> Finished:
    """Turn how the child ended into its ``finished`` event or the right exception."""
    match last:
        case Failed():
            raise _reported(last)
        case Finished() if returncode == 0:
            return last
        case GenerationStopped():
            raise _stopped(last, f"stopped after {last.done} of {last.total} answers; they are kept")
        case TrainStopped():
            raise _stopped(last, f"stopped at train step {last.train_step}; a checkpoint was saved")
    tail, job = _tail(stderr), "download" if isinstance(last, Download) else verb
    again = "run the same command again" + (f": {RESUMES[job]}" if job in RESUMES else "")
    if returncode < 0:
        name = signal.Signals(-returncode).name
        if job in NEEDS_LESS:
            again = f"the system kills the largest process when memory runs out: {NEEDS_LESS[job]}\n{again}"
        raise RunFailed("R201", f"the {verb} process was killed by {name}", hint=again + tail)
    raise RunFailed(
        "R202",
        f"the {verb} process ended with exit status {returncode} and no error report",
        hint=again + tail,
    )


def _stopped(event: TrainStopped | GenerationStopped, message: str) -> RunspecError:
    """Who asked decides the exit code. Without a train step or an answer of its own the session got nowhere."""
    if event.reason == "request":
        return Interrupted("R203", message)
    needs = event.needs if isinstance(event, TrainStopped) else None
    return DeadlineReached("R208", message, hint=needs) if event.here else NothingDone("R208", message, hint=needs)


def _reported(event: Failed) -> RunspecError:
    diagnostics = [_diagnostic(row) for row in event.diagnostics]
    return _BY_EXIT_CODE.get(event.exit_code, RunFailed).of(diagnostics)


def _diagnostic(row: Mapping[str, Any]) -> Diagnostic:
    where = None
    if row.get("file"):
        where = Where(row["file"], row.get("line") or 0, row.get("column") or 0, path=row.get("path") or "")
    return Diagnostic(row["code"], row["message"], where, row.get("hint"), row.get("severity", "error"))


def _tail(stderr: Path) -> str:
    text = stderr.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if not CPP_FRAME.match(line)][-STDERR_TAIL_LINES:]
    return "\nthe end of its standard error:\n" + "\n".join(f"  {redact(line)}" for line in lines) if lines else ""
