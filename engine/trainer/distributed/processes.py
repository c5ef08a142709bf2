"""The processes of one training, each with its own devices: how they join, agree, and notice that one is gone.

In: the job's ``cluster``, which is null (one process), {"how": "auto"} (JAX finds the others: SLURM, Kubernetes, Cloud
TPU, Open MPI) or {"coordinator_address": "host:port", "num_processes": N, "process_id": I}. Out: :class:`ProcessGroup`.

    peers = join(job["cluster"])            # before anything asks JAX for a device
    job = peers.agree("job", lambda: job)   # what process 0 has, in every process
    peers.barrier("staged")
    peers.leave()                           # at the end: waits for the others

Process 0 is the one that writes: metrics, logs, events, what is exported. It also runs the coordinator, JAX's own
service that all processes talk to (``jax.distributed``); agreements and signs of life go through its table of keys.

**One is gone.** Collectives with a dead process fail on some machines and wait for ever on others. So every process
puts a sign of life into the table each second, and a thread looks at those of the others: who has been silent for
``SILENT_SECONDS``, or has said that it failed, is named (T171, T172), and the process ends with exit status 1. The
trainer's checkpoints are what the next run goes on from.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.protocol.jobs import Cluster

BEAT_SECONDS = 1.0
SILENT_SECONDS = 20.0  # a machine that swaps or compiles may well be silent for a few
LINGER_SECONDS = 4 * BEAT_SECONDS
JOIN_SECONDS = 300
LEAVE_SECONDS = 60
AGREE_SECONDS = 24 * 3600  # who waits for process 0 may wait for a long tokenisation; the watch ends it where 0 is gone
KEPT_WORDS = 8  # agreements of one kind that stay in the table: nobody is further behind
AGAIN = "run the same command on all machines again: it goes on from the last checkpoint"

Say = Callable[[Diagnostic], None]


class ProcessGroup:
    """The processes of one training. One process alone is ``ProcessGroup()``: it agrees with itself and waits for nobody."""

    def __init__(
        self, client: Any = None, process_id: int = 0, count: int = 1, *, silent: float = SILENT_SECONDS
    ) -> None:
        self.process_id, self.count = process_id, count
        self._client, self._silent = client, silent
        self._said: dict[str, int] = {}
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None
        self._gone: Diagnostic | None = None

    @property
    def is_writer(self) -> bool:
        """Does this process write what all of them found?"""
        return self.process_id == 0

    def agree(self, about: str, value: Callable[[], Any]) -> Any:
        """What ``value()`` is in process 0, in every process; as JSON carries it. All must ask in the same order."""
        if self._client is None:
            return value()
        number = self._said[about] = self._said.get(about, -1) + 1
        key = f"runspec/said/{about}/{number}"
        if self.is_writer:
            found = value()
            self._client.key_value_set(key, json.dumps(found))
            if number >= KEPT_WORDS:
                self._client.key_value_delete(f"runspec/said/{about}/{number - KEPT_WORDS}")
            return json.loads(json.dumps(found))
        return json.loads(self._client.blocking_key_value_get(key, AGREE_SECONDS * 1000))

    def barrier(self, name: str) -> None:
        """Wait until every process is here."""
        if self._client is None:
            return
        number = self._said[f"barrier/{name}"] = self._said.get(f"barrier/{name}", -1) + 1
        self._client.wait_at_barrier(f"runspec/{name}/{number}", AGREE_SECONDS * 1000)

    def watch(self, say: Say) -> None:
        """Begin to give signs of life and to look for those of the others. ``say`` hears who is gone, then all ends."""
        if self._client is None:
            return
        self._watch = threading.Thread(target=self._look, args=(say,), name="peers", daemon=True)
        self._watch.start()

    def failed(self, words: str) -> None:
        """Tell the others that this process gives up, and why. It then leaves without them."""
        if self._client is not None and not self._closed.is_set():
            self._client.key_value_set(f"runspec/failed/{self.process_id}", f"{_host()}\n{words}", allow_overwrite=True)
            self._closed.set()
            self._linger()

    def _linger(self) -> None:
        """With process 0 goes the coordinator, and JAX aborts who is still there: let them read and speak first."""
        if self.is_writer:
            time.sleep(LINGER_SECONDS)

    def gone(self) -> Diagnostic | None:
        """After an error that may come from a dead process: who is gone. Waits until it would be known."""
        if self._watch is None:
            return None
        self._watch.join(self._silent + 5 * BEAT_SECONDS)
        return self._gone

    def leave(self) -> None:
        """The end: nobody goes before all are through."""
        if self._client is None or self._closed.is_set():
            return
        self._client.wait_at_barrier("runspec/leave", LEAVE_SECONDS * 1000)
        self._closed.set()
        import jax

        jax.distributed.shutdown()  # the coordinator goes last

    def _look(self, say: Say) -> None:
        beats = _Beats(self.process_id, self.count)
        number = 0
        while not self._closed.wait(BEAT_SECONDS):
            number += 1
            try:
                own = f"runspec/beat/{self.process_id}"
                self._client.key_value_set(own, f"{_host()}\n{number}", allow_overwrite=True)
                alive = dict(self._client.key_value_dir_get("runspec/beat"))
                failed = dict(self._client.key_value_dir_get("runspec/failed"))
            except Exception as error:  # noqa: BLE001 - whatever a lost coordinator looks like in this version of JAX
                self._gone = _coordinator_lost(str(error))
            else:
                self._gone = beats.failed(failed) or beats.silent(alive, time.monotonic(), self._silent)
            if self._gone is not None:
                if not self._closed.is_set():
                    self._linger()
                    say(self._gone)
                return


class _Beats:
    """When each of the others gave its last sign of life."""

    def __init__(self, own: int, count: int) -> None:
        self._others = [process for process in range(count) if process != own]
        self._last: dict[int, tuple[str, float]] = {}

    def silent(self, alive: Mapping[str, str], now: float, most: float) -> Diagnostic | None:
        """The first of the others that has been silent for longer than ``most`` seconds."""
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
                    f"process {process}{on} has given no sign of life for {most:.0f} s: it was killed, or its machine is gone",
                    hint=f"look at that machine (memory, preemption); then {AGAIN}",
                )
        return None

    def failed(self, failed: Mapping[str, str]) -> Diagnostic | None:
        """One of the others that said it gives up."""
        for key, value in sorted(failed.items()):
            process = int(key.rsplit("/", 1)[1])
            if process in self._others:
                host, _, words = value.partition("\n")
                return Diagnostic(
                    "T172", f"process {process} on {host} gave up: {words}", hint=f"mend that; then {AGAIN}"
                )
        return None


SINGLE_PROCESS = ProcessGroup()


def join(cluster: Cluster | None) -> ProcessGroup:
    """Join the others. Raises InputInvalid T170 where they cannot be found or reached."""
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
    # The one place that reaches for what JAX does not offer by name; orbax does the same.
    from jax._src.distributed import global_state

    return ProcessGroup(
        global_state.client,
        jax.process_index(),
        jax.process_count(),
        silent=SILENT_SECONDS if cluster.silent_seconds is None else cluster.silent_seconds,
    )


def _require_free_port(cluster: Cluster) -> None:
    """Process 0 coordinates at its port; where somebody has it, JAX dies of a signal. Raises RunFailed T173."""
    port = int(str(cluster.coordinator_address).rpartition(":")[2])
    family, everywhere = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    try:
        socket.create_server((everywhere, port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            return  # no IPv6 here, say: JAX will have its own way
        raise _cannot_join(cluster, f"port {port} cannot be had ({os.strerror(error.errno)})") from error


def _wait_for_coordinator(cluster: Cluster, seconds: int) -> None:
    """Until somebody listens there: JAX aborts a process that waits in vain. Raises RunFailed T173."""
    host, _, port = str(cluster.coordinator_address).rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_SECONDS).close()
        except OSError as error:
            if time.monotonic() > until:
                raise _cannot_join(cluster, f"nobody answers for {seconds} s ({error.strerror or error})") from error
            time.sleep(BEAT_SECONDS / 4)
        else:
            return


def _cannot_join(cluster: Cluster, words: str) -> InputInvalid | RunFailed:
    first = (words.splitlines() or ["no reason"])[0][:200]
    if cluster.coordinator_address is None:
        return InputInvalid(
            "T170",
            f"cluster: auto, and JAX finds no cluster here: {first}",
            hint="it knows SLURM, Kubernetes, Cloud TPU and Open MPI; elsewhere set RUNSPEC_COORDINATOR (host:port of "
            "process 0), RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID for each process",
        )
    return RunFailed(
        "T173",
        f"process {cluster.process_id} of {cluster.num_processes} cannot join at {cluster.coordinator_address}: {first}",
        hint="is process 0 running, is its port free there and reachable from here, do all processes name the same address "
        "and number?",
    )


def _coordinator_lost(words: str) -> Diagnostic:
    first = (words.splitlines() or ["no reason"])[0][:160]
    return Diagnostic(
        "T171",
        f"process 0, which coordinates the others, cannot be reached any more: {first}",
        hint=f"look at its machine (memory, preemption) and at its own last words; then {AGAIN}",
    )


def _host() -> str:
    return socket.gethostname()
