"""What the processes of one training run tell each other, through a key-value store in this process."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.protocol.jobs import Cluster
from engine.trainer.__main__ import _give_up as give_up
from engine.trainer.distributed import processes as module
from engine.trainer.distributed.gather import check_same
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup
from tests.fixtures.events import log_into

HERE = socket.gethostname()
AGAIN = "run the same command on all machines again: it resumes from the last checkpoint"


class Store:
    """JAX's key-value store, as far as it is used here. ``lost``: the coordinator is gone."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.lost = False
        self._changed = threading.Condition()

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        with self._changed:
            if self.lost:
                raise RuntimeError("UNAVAILABLE: failed to connect to all addresses")
            assert allow_overwrite or key not in self.keys
            self.keys[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key: str, milliseconds: int) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: key in self.keys, 10)
            return self.keys[key]

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.keys.items() if key.startswith(folder)]

    def key_value_delete(self, key: str) -> None:
        del self.keys[key]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are hundredths."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.02)


def _watched(store: Store, *, silent: float, process: int = 0, count: int = 2) -> list[Diagnostic]:
    """What a watching process reports, once it reports something."""
    reported: list[Diagnostic] = []
    watcher = ProcessGroup(store, process, count, silent=silent)
    watcher.watch(reported.append)
    deadline = time.monotonic() + 10
    while not reported and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watcher.gone() == reported[0]
    return reported


def test_one_process_agrees_with_itself():
    """A single process tells nobody and waits for nobody."""
    assert SINGLE_PROCESS.agree("x", lambda: (1, 2)) == (1, 2)
    assert SINGLE_PROCESS.is_writer
    SINGLE_PROCESS.barrier("x")
    SINGLE_PROCESS.watch(lambda _: pytest.fail("there is no other process"))
    SINGLE_PROCESS.failed("no reason")
    assert SINGLE_PROCESS.gone() is None
    SINGLE_PROCESS.leave()


def test_all_get_the_value_of_process_0():
    """In the order of the calls, whichever comes first; the store does not grow with the train steps."""
    store = Store()
    first, second = ProcessGroup(store, 0, 2), ProcessGroup(store, 1, 2)
    received: list[Any] = []
    listener = threading.Thread(target=lambda: received.extend(second.agree("stop", lambda: -1) for _ in range(3)))
    listener.start()
    agreed = [first.agree("stop", lambda value=value: {"stop": value}) for value in range(3)]
    listener.join(10)
    assert received == agreed == [{"stop": value} for value in range(3)]
    for value in range(100):
        first.agree("stop", lambda value=value: value)
    assert len(store.keys) <= module.KEPT_AGREEMENTS + 1


def test_a_silent_process_is_named(quick: None):
    """One heartbeat and then no more: the process is named with its machine, and so is what to do."""
    store = Store()
    store.key_value_set("runspec/beat/1", "node7\n41")
    (found,) = _watched(store, silent=0.2)
    assert (found.code, found.message, found.hint) == (
        "T171",
        "process 1 on node7 has sent no heartbeat for 0 s: it was killed, or its machine is gone",
        f"look at that machine (memory, preemption); then {AGAIN}",
    )


def test_a_live_process_is_not_named(quick: None):
    """Two with heartbeats report nothing, for many times the silence that is tolerated."""
    store, reported = Store(), []
    both = [ProcessGroup(store, number, 2, silent=0.3) for number in range(2)]
    for group in both:
        group.watch(reported.append)
    time.sleep(1.0)
    assert reported == []
    for group in both:
        group._closed.set()


def test_a_process_that_fails_says_why_to_all(quick: None):
    """Its reason is repeated with its number and machine."""
    store = Store()
    ProcessGroup(store, 1, 3).failed("T141: the checkpoint cannot be written: no space")
    (found,) = _watched(store, silent=60, process=2, count=3)
    assert (found.code, found.message) == (
        "T172", f"process 1 on {HERE} failed: T141: the checkpoint cannot be written: no space",
    )  # fmt: skip
    assert found.hint == f"fix that; then {AGAIN}"


def test_a_lost_coordinator_is_reported(quick: None):
    """If the store itself is gone, process 0 is the one to look at."""
    store = Store()
    store.lost = True
    (found,) = _watched(store, silent=60, process=1)
    assert found.code == "T171"
    assert found.message.startswith("process 0, which runs the coordinator, can no longer be reached: UNAVAILABLE")


def test_another_library_is_refused_by_name():
    """Everything in which a process differs from process 0, with both values."""
    store = Store()
    check_same({"library jax": "0.10.2", "rows": "a"}, ProcessGroup(store, 0, 2))
    with pytest.raises(InputInvalid) as error:
        check_same({"library jax": "0.11.0", "rows": "a"}, ProcessGroup(store, 1, 2))
    (found,) = error.value.diagnostics
    assert (found.code, found.message) == (
        "T174", "process 1 differs from process 0: library jax is 0.11.0 here, 0.10.2 there",
    )  # fmt: skip


def test_a_save_that_fails_with_a_dead_process_says_which_died():
    """Orbax's error about a process that is gone is no full disk; bad input is told to the others at once."""
    events, told = [], []
    dead = Diagnostic("T171", "process 1 on node7 has sent no heartbeat for 20 s")
    processes: Any = SimpleNamespace(gone=lambda: dead, failed=told.append)
    assert give_up(processes, log_into(events), 1, Diagnostic("T141", "the checkpoint cannot be written")) == 1
    assert ([row["code"] for row in events[0]["diagnostics"]], told) == (["T171"], [])
    assert give_up(processes, log_into(events), 2, Diagnostic("T120", "another training")) == 2
    assert (events[1]["diagnostics"][0]["code"], told) == ("T120", ["T120: another training"])


def test_a_port_that_is_taken_is_an_error() -> None:
    """A signal would kill JAX's coordinator; a free port passes."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = Cluster(coordinator_address=f"127.0.0.1:{port}", num_processes=2, process_id=0)
        with pytest.raises(RunFailed, match=rf"T173.*port {port} cannot be used \(Address already in use\)"):
            module.join(cluster)
    module._require_free_port(cluster)
