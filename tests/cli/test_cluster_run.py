"""A complete run in two processes, as a person starts it on two machines that share a disk."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
SPEC = """\
version: 1
run_version: two_v1
device: cpu
model:
  id: runspec/gemma-micro
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 256}
dataset: quickstart-reasoning
eval_set: evalsets/quickstart.jsonl
steps:
  - {id: dataset, uses: build_dataset, with: {num_rows: 24}}
  - id: train
    uses: train_sft
    with: {num_train_steps: STEPS, per_device_batch_size: 2, seq_len: 128, learning_rate: 1.0e-3, save_every_steps: 2,
           global_batch_size: 4}
  - {id: predict, uses: generate, with: {max_new_tokens: 4, batch_size: 50}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
"""

pytestmark = pytest.mark.slow
Start = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def machines(project: Path, runspec_process: Any) -> Any:
    """Start the run of ``spec.yaml`` in two processes; all are gone after the test."""
    shutil.copytree(REPOSITORY / "evalsets", project / "evalsets")
    started: list[subprocess.Popen[str]] = []

    def start(steps: int) -> list[subprocess.Popen[str]]:
        (project / "spec.yaml").write_text(SPEC.replace("STEPS", str(steps)))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        named = {"RUNSPEC_COORDINATOR": f"127.0.0.1:{port}", "RUNSPEC_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu"}
        for number in range(2):
            environment = {**named, "RUNSPEC_PROCESS_ID": str(number)}
            started.append(runspec_process("run", "spec.yaml", cwd=project, env=environment))
        return started[-2:]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_two_machines_run_one_spec(machines: Start, project: Path):
    """The first does the run, to verified evidence; the second trains along and says so."""
    first, second = machines(3)
    (out, err), (along, noted) = first.communicate(timeout=170), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), err + noted
    assert "verified" in out
    assert along == "process 1: trained along (train); process 0 has the results\n"
    assert "process 1: waits for process 0, then trains along (train)" in noted
    assert (project / "submission_runs" / "two_v1" / "run_manifest.json").is_file()

    first, second = machines(3)  # restarted, as schedulers do: no process waits for a finished training run
    (out, err), (along, noted) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), err + noted
    assert "nothing to do" in err
    assert along == "process 1: nothing to do, every training step is done\n"


def _trainers(parent: int) -> list[int]:
    """The trainer's process below a run."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_trainer_ends_both(machines: Start, project: Path, victim: int):
    """Exit status 1 on both sides within bounded time, with a reason and what to do."""
    processes = machines(3000)
    deadline = time.monotonic() + 150
    while not list(project.glob(".runspec/**/checkpoints/0*")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (trainer,) = _trainers(processes[victim].pid)
    os.kill(trainer, signal.SIGKILL)
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert "error[R201]" in said[victim]
    other = said[1 - victim]
    # Without its coordinator a process is ended by JAX, or by our own watch, whichever notices first.
    reasons = (
        ["error[T171]: process 1 on"]
        if victim
        else ["error[R204]: JAX ended the train process", "error[T171]: process 0,"]
    )
    assert any(reason in other for reason in reasons), other
    assert "from the last checkpoint" in other


def test_all_are_asked_to_stop(machines: Start, project: Path):
    """SIGTERM to both runs, as a cluster's scheduler sends it: one train step is saved, both end resumable."""
    processes = machines(3000)
    deadline = time.monotonic() + 150
    while not list(project.glob(".runspec/**/checkpoints/0*")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=90)[1] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], said
    assert "error[R203]: stopped at train step" in said[1], said
