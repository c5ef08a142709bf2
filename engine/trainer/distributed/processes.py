"""The processes of one training run, each with its own devices: how they join, agree, and notice that one is gone.

In: the job's ``cluster``, which is null (one process), {"how": "auto"} (JAX finds the others: SLURM, Kubernetes, Cloud
TPU, Open MPI) or {"coordinator_address": "host:port", "num_processes": N, "process_id": I}. Out: :class:`ProcessGroup`.

    processes = join(cluster)                   # before anything asks JAX for a device
    job = processes.agree("job", lambda: job)   # process 0's value, in every process
    processes.barrier("staged")
    processes.leave()                           # at the end: waits for the others

Process 0 is the one that writes: metrics, logs, events, exports. It also runs the coordinator, JAX's own service that
all processes talk to (``jax.distributed``); agreements and heartbeats go through its key-value store.

**A process is gone.** Collectives with a dead process fail on some machines and wait for ever on others. So every
process writes a heartbeat into the store each second, and a thread reads those of the others: a process that has been
silent for ``SILENT_SECONDS``, or has reported that it failed, is named (T171, T172), and the reader ends with exit status
1. The next run resumes from the trainer's checkpoints.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.protocol.jobs import Cluster

BEAT_SECONDS = 1.0
SILENT_SECONDS = 20.0  # a machine that swaps or compiles may well be silent for a few
LINGER_SECONDS = 4 * BEAT_SECONDS
JOIN_SECONDS = 300
LEAVE_SECONDS = 60
AGREE_SECONDS = 24 * 3600  # process 0 may be tokenising for long; the heartbeat thread ends the wait if 0 is gone
KEPT_AGREEMENTS = 8  # of one kind that stay in the store: no process is further behind
AGAIN = "run the same command on all machines again: it resumes from the last checkpoint"

Value = TypeVar("Value")
OnGone = Callable[[Diagnostic], None]


class KeyValueStore(Protocol):
    """The coordinator's client in JAX, as far as it is used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Store a value."""

    def key_value_delete(self, key: str) -> None:
        """Delete a value."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """All (key, value) below a key."""

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        """A value, once it is stored."""

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None:
        """Wait until every process waits here."""


class ProcessGroup:
    """The processes of one training run. ``ProcessGroup()`` is a single process: it agrees with itself and never waits."""

    def __init__(
        self,
        client: KeyValueStore | None = None,
        process_id: int = 0,
        count: int = 1,
        *,
        silent: float = SILENT_SECONDS,
    ) -> None:
        self.process_id, self.count = process_id, count
        self._client, self._silent = client, silent
        self._counts: dict[str, int] = {}  # agreements and barriers so far, by name
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None
        self._gone: Diagnostic | None = None

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the results of all."""
        return self.process_id == 0

    def agree(self, about: str, value: Callable[[], Value]) -> Value:
        """Process 0's ``value()``, in every process; which is JSON. All must call this in the same order."""
        if self._client is None:
            return value()
        number = self._counts[about] = self._counts.get(about, -1) + 1
        # Under this key a process of another engine version finds the job too, and is then refused by T174.
        key = f"runspec/said/{about}/{number}"
        if self.is_writer:
            text = json.dumps(value())
            self._client.key_value_set(key, text)
            if number >= KEPT_AGREEMENTS:
                self._client.key_value_delete(f"runspec/said/{about}/{number - KEPT_AGREEMENTS}")
            return cast(Value, json.loads(text))
        return cast(Value, json.loads(self._client.blocking_key_value_get(key, AGREE_SECONDS * 1000)))

    def barrier(self, name: str) -> None:
        """Wait until every process has called this."""
        if self._client is None:
            return
        number = self._counts[f"barrier/{name}"] = self._counts.get(f"barrier/{name}", -1) + 1
        self._client.wait_at_barrier(f"runspec/{name}/{number}", AGREE_SECONDS * 1000)

    def watch(self, on_gone: OnGone) -> None:
        """Start the heartbeat thread. ``on_gone`` is told once which process is gone."""
        if self._client is None:
            return
        self._watch = threading.Thread(
            target=self._watch_others, args=(self._client, on_gone), name="heartbeat", daemon=True
        )
        self._watch.start()

    def failed(self, reason: str) -> None:
        """Tell the others that this process failed, and why. It then leaves without them."""
        if self._client is not None and not self._closed.is_set():
            self._client.key_value_set(
                f"runspec/failed/{self.process_id}", f"{_host()}\n{reason}", allow_overwrite=True
            )
            self._closed.set()
            self._linger()

    def _linger(self) -> None:
        """The coordinator ends with process 0, and JAX aborts the others: let them read and report first."""
        if self.is_writer:
            time.sleep(LINGER_SECONDS)

    def gone(self) -> Diagnostic | None:
        """After an error that may come from a dead process: which one is gone. Waits as long as noticing it takes."""
        if self._watch is None:
            return None
        self._watch.join(self._silent + 5 * BEAT_SECONDS)
        return self._gone

    def leave(self) -> None:
        """The end: waits until all processes have got here."""
        if self._client is None or self._closed.is_set():
            return
        self._client.wait_at_barrier("runspec/leave", LEAVE_SECONDS * 1000)
        self._closed.set()
        import jax

        jax.distributed.shutdown()  # the coordinator ends last

    def _watch_others(self, client: KeyValueStore, on_gone: OnGone) -> None:
        heartbeats = _Heartbeats(self.process_id, self.count)
        number = 0
        while not self._closed.wait(BEAT_SECONDS):
            number += 1
            try:
                own = f"runspec/beat/{self.process_id}"
                client.key_value_set(own, f"{_host()}\n{number}", allow_overwrite=True)
                alive = dict(client.key_value_dir_get("runspec/beat"))
                failed = dict(client.key_value_dir_get("runspec/failed"))
            except Exception as error:  # noqa: BLE001 - whatever a lost coordinator looks like in this version of JAX
                self._gone = _coordinator_lost(str(error))
            else:
                self._gone = heartbeats.failed(failed) or heartbeats.silent(alive, time.monotonic(), self._silent)
            if self._gone is not None:
                if not self._closed.is_set():
                    self._linger()
                    on_gone(self._gone)
                return


class _Heartbeats:
    """When each of the others last changed its heartbeat."""

    def __init__(self, own: int, count: int) -> None:
        self._others = [process for process in range(count) if process != own]
        self._last: dict[int, tuple[str, float]] = {}

    def silent(self, alive: Mapping[str, str], now: float, most: float) -> Diagnostic | None:
        """The first of the others that has been silent for longer than ``most`` seconds, as a finding."""
        by_process = {int(key.rsplit("/", 1)[1]): value for key, value in alive.items()}
        for process in self._others:
            value = by_process.get(process, "")
            before, since = self._last.setdefault(process, (value, now))
            if value != before:
                self._last[process] = (value, now)
            elif now - since > most:
                host = value.partition("\n")[0]
                on = f" on {host}" if host else ""
                return Diagnostic(
                    "T171",
                    f"process {process}{on} has sent no heartbeat for {most:.0f} s: it was killed, or its machine is gone",
                    hint=f"look at that machine (memory, preemption); then {AGAIN}",
                )
        return None

    def failed(self, failed: Mapping[str, str]) -> Diagnostic | None:
        """The first of the others that reported a failure, as a finding."""
        for key, value in sorted(failed.items()):
            process = int(key.rsplit("/", 1)[1])
            if process in self._others:
                host, _, reason = value.partition("\n")
                return Diagnostic(
                    "T172", f"process {process} on {host} failed: {reason}", hint=f"fix that; then {AGAIN}"
                )
        return None


SINGLE_PROCESS = ProcessGroup()


def join(cluster: Cluster | None) -> ProcessGroup:
    """Join the other processes. Raises InputInvalid T170 (no cluster is found), RunFailed T173 (they cannot be reached)."""
    if cluster is None:
        return ProcessGroup()
    import jax

    seconds = JOIN_SECONDS if cluster.join_seconds is None else cluster.join_seconds
    if cluster.process_id:
        _wait_for_coordinator(cluster, seconds)
    elif cluster.coordinator_address is not None:
        _require_free_port(cluster)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from us
    try:
        jax.distributed.initialize(
            cluster.coordinator_address, cluster.num_processes, cluster.process_id, initialization_timeout=seconds
        )
    except (ValueError, RuntimeError) as error:
        raise _cannot_join(cluster, str(error)) from error
    # The only use of a private part of JAX; orbax does the same.
    from jax._src.distributed import global_state

    return ProcessGroup(
        global_state.client,
        jax.process_index(),
        jax.process_count(),
        silent=SILENT_SECONDS if cluster.silent_seconds is None else cluster.silent_seconds,
    )


def _require_free_port(cluster: Cluster) -> None:
    """Process 0 runs the coordinator at its port; if the port is taken, a signal kills JAX. Raises RunFailed T173."""
    port = int(str(cluster.coordinator_address).rpartition(":")[2])
    family, everywhere = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    try:
        socket.create_server((everywhere, port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            return  # no IPv6 here, for example: JAX finds its own way
        raise _cannot_join(cluster, f"port {port} cannot be used ({os.strerror(error.errno)})") from error


def _wait_for_coordinator(cluster: Cluster, seconds: int) -> None:
    """Until its port is open: JAX aborts a process that waits in vain. Raises RunFailed T173."""
    host, _, port = str(cluster.coordinator_address).rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_SECONDS).close()
        except OSError as error:
            if time.monotonic() > until:
                raise _cannot_join(cluster, f"no answer for {seconds} s ({error.strerror or error})") from error
            time.sleep(BEAT_SECONDS / 4)
        else:
            return


def _cannot_join(cluster: Cluster, reason: str) -> InputInvalid | RunFailed:
    first = (reason.splitlines() or ["no reason"])[0][:200]
    if cluster.coordinator_address is None:
        return InputInvalid(
            "T170",
            f"cluster is auto, and JAX finds no cluster here: {first}",
            hint="it knows SLURM, Kubernetes, Cloud TPU and Open MPI; elsewhere set RUNSPEC_COORDINATOR (host:port of "
            "process 0), RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID for each process",
        )
    return RunFailed(
        "T173",
        f"process {cluster.process_id} of {cluster.num_processes} cannot join at {cluster.coordinator_address}: {first}",
        hint="check that process 0 is running, that its port is free there and reachable from here, and that all processes "
        "name the same address and number",
    )


def _coordinator_lost(reason: str) -> Diagnostic:
    first = (reason.splitlines() or ["no reason"])[0][:160]
    return Diagnostic(
        "T171",
        f"process 0, which runs the coordinator, can no longer be reached: {first}",
        hint=f"look at its machine (memory, preemption) and at the end of its log; then {AGAIN}",
    )


def _host() -> str:
    return socket.gethostname()
