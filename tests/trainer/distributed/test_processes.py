"""Several processes train as one: real ones, on loopback, with JAX's own runtime between them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

SILENT_SECONDS = 5

pytestmark = pytest.mark.timeout(600)  # three to four interpreters and compilers on two cores


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def together(child: Callable[..., Any], tmp_path: Path) -> Callable[..., list[Any]]:
    """Start ``count`` processes for one job, each with ``devices`` (virtual) devices."""

    def start(
        job: dict[str, Any],
        count: int,
        devices: int = 1,
        preludes: Mapping[int, str] = MappingProxyType({}),
        **changes: Any,
    ) -> list[Any]:
        address, started = f"127.0.0.1:{_free_port()}", []
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        }
        for process in range(count):
            cluster = {"coordinator_address": address, "num_processes": count, "process_id": process, **changes}
            cluster.setdefault("silent_seconds", SILENT_SECONDS)
            work = Path(job["work"]) if not process else tmp_path / address.rpartition(":")[2] / str(process) / "work"
            mine, prelude = {**job, "work": str(work), "cluster": cluster}, preludes.get(process, "")
            started.append(child(mine, prelude=prelude, env=environment))
        return started

    return start


def _losses(rows: list[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows]


def test_two_processes_train_as_one(
    make_job: Callable[..., Any],
    together: Callable[..., Any],
    train_here: Callable[..., Any],
    metrics_of: Callable[..., Any],
) -> None:
    """The same batches and losses as one process; one of them writes, and its model is complete."""
    shape = {"global_batch_size": 6, "per_device_batch_size": 2, "num_train_steps": 4, "save_every_steps": 2,
             "learning_rate": 1e-4, "eval_rows": 3}  # fmt: skip
    alone, job = make_job("alone", **shape), make_job("two", **shape)
    first, second = together(job, 2)
    assert [first.finish(), second.finish()] == [0, 0]
    assert first.named("started")[0]["mesh"] == {"fsdp": 2, "tp": 1}
    assert [event["event"] for event in second.events] == ["finished"]
    report = first.named("finished")[0]["report"]
    assert report["topology"]["processes"] == 2
    train_here(alone)
    assert _losses(metrics_of(job)) == pytest.approx(_losses(metrics_of(alone)), rel=1e-5)
    assert metrics_of(job)[-1]["eval_loss"] == pytest.approx(metrics_of(alone)[-1]["eval_loss"], rel=1e-5)
    assert _weights(job) == pytest.approx(_weights(alone), rel=1e-4, abs=1e-5)


def _weights(job: dict[str, Any]) -> Any:
    tensors = load_file(Path(job["out"]) / "model" / "model.safetensors")
    return np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mesh": {"tp": 2}},
        {"mesh": {"tp": 4}, "optimizer": "adafactor"},
        {"method": "lora", "lora_rank": 2, "lora_merge": True},
    ],
    ids=["tp_2", "tp_4_over_processes", "lora"],
)
def test_four_processes_train_as_one(
    make_job: Callable[..., Any],
    together: Callable[..., Any],
    train_here: Callable[..., Any],
    metrics_of: Callable[..., Any],
    changes: dict[str, Any],
) -> None:
    """Four processes of two devices: the mesh spans processes, and the batch does not divide."""
    shape = {"global_batch_size": 9, "per_device_batch_size": 2, "num_train_steps": 4, "learning_rate": 1e-4, **changes}
    alone, job = make_job("alone", **{**shape, "mesh": {}}), make_job("four", **shape)
    processes = together(job, 4, devices=2)
    assert [process.finish() for process in processes] == [0, 0, 0, 0]
    train_here(alone)
    assert _losses(metrics_of(job)) == pytest.approx(_losses(metrics_of(alone)), rel=1e-5)
    if "method" in changes:
        for job_ in (alone, job):
            assert (Path(job_["out"]) / "merged" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 2])
def test_one_of_three_is_killed(
    make_job: Callable[..., Any],
    together: Callable[..., Any],
    train_here: Callable[..., Any],
    metrics_of: Callable[..., Any],
    deadline: Callable[..., Any],
    victim: int,
) -> None:
    """The others stop within seconds and name it; the same command again ends as a single process does."""
    shape = {"global_batch_size": 6, "per_device_batch_size": 2, "num_train_steps": 400, "save_every_steps": 3,
             "learning_rate": 1e-5}  # fmt: skip
    job = make_job("killed", **shape)
    processes = together(job, 3)
    first = processes[0]
    first.until("checkpoint")
    processes[victim].kill()
    with deadline(SILENT_SECONDS + 25):
        ends = [process.finish() for number, process in enumerate(processes) if number != victim]
    assert ends == [1, 1]
    (error,) = first.named("error")
    (found,) = error["diagnostics"]
    assert (found["code"], error["exit_code"]) == ("T171", 1)
    assert found["message"].startswith(f"process {victim} on {socket.gethostname()} has sent no heartbeat for 5 s")
    assert "it resumes from the last checkpoint" in found["hint"]
    last = first.named("checkpoint")[-1]["train_step"]
    resumed = {**job, "stop_at": last + 3}
    again = together(resumed, 3)
    assert [process.finish() for process in again] == [0, 0, 0]
    assert again[0].named("restored")[0]["train_step"] >= last
    alone = {**make_job("alone", **shape), "stop_at": resumed["stop_at"]}
    train_here(alone)
    assert _losses(metrics_of(job)) == pytest.approx(_losses(metrics_of(alone)), rel=1e-5)


@pytest.mark.slow
def test_the_coordinating_process_is_killed(
    make_job: Callable[..., Any], together: Callable[..., Any], deadline: Callable[..., Any]
) -> None:
    """Without process 0 none continues: JAX ends the others at once, and the next start restores."""
    job = make_job("killed", global_batch_size=6, num_train_steps=400, save_every_steps=3)
    first, second = together(job, 2)
    first.until("checkpoint")
    first.kill()
    with deadline(SILENT_SECONDS + 25):
        assert second.finish() != 0
    again = together({**job, "stop_at": first.named("checkpoint")[-1]["train_step"] + 3}, 2)
    assert [process.finish() for process in again] == [0, 0]
    assert again[0].named("restored")


@pytest.mark.slow
def test_one_that_fails_tells_the_others(make_job: Callable[..., Any], together: Callable[..., Any]) -> None:
    """A process with another engine refuses, and the others say why they end."""
    job = make_job("failed", global_batch_size=4, num_train_steps=50)
    first, second = together(job, 2, preludes={1: "import engine.trainer.train as t; t.identity = lambda *_: {}"})
    assert [second.finish(), first.finish()] == [2, 1]
    assert second.named("error")[0]["diagnostics"][0]["code"] == "T174"
    (found,) = first.named("error")[0]["diagnostics"]
    assert found["code"] == "T172"
    assert found["message"].startswith(
        f"process 1 on {socket.gethostname()} failed: T174: process 1 differs from process 0"
    )


@pytest.mark.slow
def test_asked_to_stop_all_stop_after_the_same_step(make_job: Callable[..., Any], together: Callable[..., Any]) -> None:
    """SIGTERM to process 0: all of them save the same train step and end, resumable."""
    job = make_job("stopped", global_batch_size=4, num_train_steps=4000, save_every_steps=500)
    first, second = together(job, 2)
    first.until("train_step")
    first.process.terminate()
    assert [first.finish(), second.finish()] == [0, 0]
    ends = [process.named("stopped")[0]["train_step"] for process in (first, second)]
    assert ends[0] == ends[1] == first.named("checkpoint")[-1]["train_step"]


@pytest.mark.slow
def test_a_missing_coordinator_is_an_error(make_job: Callable[..., Any], together: Callable[..., Any]) -> None:
    """A process whose coordinator never comes ends with the address it tried."""
    job = make_job("lonely")
    cluster = {
        "coordinator_address": f"127.0.0.1:{_free_port()}",
        "num_processes": 2,
        "process_id": 1,
        "join_seconds": 3,
    }
    (alone,) = together(job, 1, **cluster)
    assert alone.finish() == 1
    (found,) = alone.named("error")[0]["diagnostics"]
    address = cluster["coordinator_address"]
    assert found["code"] == "T173"
    assert found["message"] == (f"process 1 of 2 cannot join at {address}: no answer for 3 s (Connection refused)")
