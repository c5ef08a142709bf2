"""The trainer as a process: its events, how it ends, and that no work is lost when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import pytest

from engine.protocol.device_memory import Allocator
from engine.trainer import device
from engine.trainer.inputs import load_model
from engine.trainer.weights import save_folder
from tests.fixtures.events import model_source

Start = Callable[..., Any]


@pytest.fixture
def whole(
    first_run: dict[str, Any], make_job: Callable[..., Any], child: Start, copy_of: Callable[..., Any]
) -> dict[str, Any]:
    """The standard job, trained once without interruption by a child."""
    if "job" not in first_run:
        job = make_job("whole", num_train_steps=20, save_every_steps=2)
        run = child(job)
        assert run.finish() == 0
        first_run["events"], first_run["stderr"] = run.events, run.stderr_path.read_text()
        first_run["job"] = copy_of(job, first_run["root"])
    return first_run["job"]


@pytest.mark.usefixtures("whole")
def test_events_are_the_only_output(first_run: dict[str, Any]) -> None:
    """Standard output is one JSON event a line, in order, and standard error is empty."""
    events = first_run["events"]
    names = [event["event"] for event in events]
    # A note says once, for each model, that transformers reads what will be exported.
    assert [name for name in names if name not in ("checkpoint", "note")] == [
        "started", "compiled", *["train_step"] * 20, "finished",
    ]  # fmt: skip
    saved = [event["train_step"] for event in events if event["event"] == "checkpoint"]
    assert saved == list(range(2, 21, 2))  # emitted once they are published
    assert names[-2] == "checkpoint"
    assert first_run["stderr"] == ""


def test_printed_text_is_no_event(tmp_path: Path) -> None:
    """print and writes to file descriptor 1 go to standard error once events are open."""
    code = (
        "from engine.trainer.process import open_events\n"
        "import os\nemit = open_events()\nprint('noise', flush=True)\nos.write(1, b'more noise\\n')\n"
        "from engine.protocol.events.base import Note\nemit(Note('é'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"event": "note", "text": "é"}
    assert done.stderr == b"noise\nmore noise\n"


def test_killed_while_saving(
    whole: dict[str, Any], make_job: Callable[..., Any], child: Start, same_training: Callable[..., None]
) -> None:
    """SIGKILLed while a checkpoint is half written, a run resumes from the previous one."""
    job = make_job("saving", num_train_steps=20, save_every_steps=2)
    folder = Path(job["work"]) / "checkpoints"
    run = child(job)
    run.until("checkpoint")
    while not list(folder.glob("*.tmp")):
        assert run.process.poll() is None
    run.process.send_signal(signal.SIGKILL)
    run.finish()
    assert list(folder.glob("*.tmp"))
    again = child(job)
    assert again.finish() == 0
    assert [event["event"] for event in again.events][:2] == ["started", "restored"]
    assert not list(folder.glob("*.tmp"))
    same_training(whole, job)


@pytest.mark.slow
def test_compiled_afresh_is_the_same(
    whole: dict[str, Any], make_job: Callable[..., Any], child: Start, same_training: Callable[..., None]
) -> None:
    """Without a cache the step is compiled afresh, the tokens are in the work folder, and the bytes are the same."""
    job = make_job("fresh", num_train_steps=20, save_every_steps=2)
    assert child({**job, "cache": None}).finish() == 0
    assert list((Path(job["work"]) / "cache" / "tokens").glob("*/header.json"))
    same_training(whole, job)


@pytest.mark.slow
def test_tokenised_by_workers_is_the_same(
    whole: dict[str, Any], make_job: Callable[..., Any], child: Start, same_training: Callable[..., None], tmp_path: Path,
    jax_cache: Path,
) -> None:  # fmt: skip
    """If there are so many rows that processes tokenise them, the run is the same, and events are the only output."""
    cache = tmp_path / "cache"
    shutil.copytree(jax_cache / "jax", cache / "jax")
    job = make_job("workers", num_train_steps=20, save_every_steps=2)
    run = child(
        {**job, "cache": str(cache)},
        prelude="from engine.trainer.input_pipeline import tokenizing; tokenizing.POOL_BYTES = 0",
    )
    assert run.finish() == 0
    assert run.stderr_path.read_text() == ""
    same_training(whole, job)


def test_a_damaged_cache_entry_does_no_harm(
    whole: dict[str, Any], make_job: Callable[..., Any], child: Start, same_training: Callable[..., None], tmp_path: Path,
    jax_cache: Path,
) -> None:  # fmt: skip
    """A compiled step that was torn by a kill is compiled again, and training continues."""
    cache = tmp_path / "cache"
    shutil.copytree(jax_cache, cache)
    entries = list((cache / "jax").rglob("*-cache"))
    assert any("step" in path.name for path in entries)
    for path in entries:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    job = make_job("torn", num_train_steps=20, save_every_steps=2)
    assert child({**job, "cache": str(cache)}).finish() == 0
    same_training(whole, job)


def test_sigterm_saves_and_stops(
    whole: dict[str, Any], make_job: Callable[..., Any], child: Start, same_training: Callable[..., None]
) -> None:
    """SIGTERM finishes the train step, saves, emits stopped, and exits 0; the next start resumes from there."""
    job = make_job("stopped", num_train_steps=20, save_every_steps=2)
    run = child(job)
    run.until("checkpoint")
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == 0
    last = run.events[-1]
    assert last["event"] == "stopped"
    assert (run.events[-2]["event"], run.events[-2]["train_step"]) == ("checkpoint", last["train_step"])
    again = child(job)
    assert again.finish() == 0
    assert again.named("restored") == [{"event": "restored", "train_step": last["train_step"]}]
    same_training(whole, job)


def test_ready_for_kill_waits_for_the_kill(make_job: Callable[..., Any], child: Start) -> None:
    """After the declared number of checkpoints the child emits ready_for_kill and waits; SIGTERM still ends it."""
    run = child({**make_job(save_every_steps=1), "stop_after_saves": 2})
    assert run.until("ready_for_kill")["train_step"] == 2
    assert [event["train_step"] for event in run.named("checkpoint")] == [1, 2]  # published before ready_for_kill
    time.sleep(0.3)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == 0
    assert run.events[-1] == {"event": "stopped", "train_step": 2, "here": 2, "needs": None, "reason": "request"}


def test_a_child_dies_with_its_parent(make_job: Callable[..., Any], tmp_path: Path) -> None:
    """SIGKILL the parent in the middle of a run: the child is gone within seconds."""
    job = make_job(num_train_steps=100_000, save_every_steps=100_000)
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'engine.trainer', 'train', {str(path)!r}],\n"
        "                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "for line in child.stdout:\n    if b'train_step' in line:\n        break\n"
        "print(child.pid, flush=True)\nchild.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_without_standard_input_the_child_ends(make_job: Callable[..., Any], tmp_path: Path) -> None:
    """Started with standard input closed, the child ends at once, and not with success."""
    path = tmp_path / "job.json"
    path.write_text(json.dumps(make_job()))
    done = subprocess.run(
        [sys.executable, "-m", "engine.trainer", "train", str(path)], stdin=subprocess.DEVNULL, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 9


def _error(run: Any) -> dict[str, Any]:
    """The child's last event: an error with one diagnostic and the exit code."""
    code = run.finish()
    event = run.events[-1]
    assert (event["event"], event["exit_code"]) == ("error", code)
    return event["diagnostics"][0]


def test_a_limit_of_file_sizes_is_an_error(make_job: Callable[..., Any], child: Start) -> None:
    """If a checkpoint cannot be written, the error says so and what to do; earlier ones stay."""
    job = make_job()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"  # a checkpoint needs 70 kB
    uncached = (
        "import sys; sys.dont_write_bytecode = True"  # Python would keep the first 20,000 bytes of what it compiles
    )
    found = _error(child(job, prelude=f"{uncached}; {limit}"))
    assert found["code"] == "T141"
    assert (found["message"], found["hint"]) == (
        "the checkpoint cannot be written: File too large", "raise the limit: ulimit -f",
    )  # fmt: skip
    assert list((Path(job["work"]) / "checkpoints").iterdir()) == []
    assert child(job).finish() == 0


FULL_DISK = """\
set -e
mount -t tmpfs -o size=5m none "$WORK"
(for _ in $(seq 3000); do [ -d "$WORK/checkpoints/00000003" ] && break; sleep 0.02; done
 head -c 100M /dev/zero > "$WORK/ballast" || true) &
"$PYTHON" -m engine.trainer train "$JOB" > "$EVENTS" && exit 99
ls "$WORK/checkpoints" > "$LEFT"
rm "$WORK/ballast"
"$PYTHON" -m engine.trainer train "$JOB" > "$EVENTS2"
cp -r "$WORK" "$KEPT"
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_no_checkpoint(
    make_job: Callable[..., Any], child: Start, same_training: Callable[..., None], tmp_path: Path
) -> None:
    """On a real file system of 5 MB that something else fills: an error; with space the run resumes."""
    whole, job = make_job("whole", num_train_steps=90), make_job("full", num_train_steps=90)
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel does not allow mounting a file system; test_resume injects the free space instead")
    assert child(whole).finish() == 0
    names = ("EVENTS", "EVENTS2", "LEFT", "KEPT")
    paths = {name: str(tmp_path / name.lower()) for name in names}
    (tmp_path / "job.json").write_text(json.dumps(job))
    Path(job["work"]).mkdir()
    environment = {
        **os.environ,
        **paths,
        "WORK": job["work"],
        "JOB": str(tmp_path / "job.json"),
        "PYTHON": sys.executable,
    }
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
        [*namespace, "bash", "-c", FULL_DISK], env=environment, stdin=subprocess.PIPE, stderr=log
    ) as shell:  # fmt: skip
        assert shell.wait() == 0, (tmp_path / "log").read_text()
    error = json.loads(Path(paths["EVENTS"]).read_text().splitlines()[-1])
    assert error["event"] == "error"
    assert error["diagnostics"][0]["code"] in ("T141", "T143")
    left = Path(paths["LEFT"]).read_text().split()
    assert left
    assert all(name.isdigit() for name in left)
    restored = json.loads(Path(paths["EVENTS2"]).read_text().splitlines()[1])
    assert restored == {"event": "restored", "train_step": max(map(int, left))}
    shutil.rmtree(job["work"])
    shutil.move(paths["KEPT"], job["work"])
    same_training(whole, job)


def test_a_folder_without_permission_is_an_error(make_job: Callable[..., Any], child: Start, is_root: bool) -> None:
    """A work folder that cannot be created is an error with its name."""
    job = make_job()
    if is_root:  # permissions do not apply: a file in the way does
        Path(job["work"]).write_text("")
    else:
        Path(job["work"]).mkdir(mode=0o500)
    found = _error(child(job))
    assert found["code"] == "T141"
    assert job["work"] in found["message"]


def test_two_never_write_into_one_folder(make_job: Callable[..., Any], child: Start) -> None:
    """A second process waits for an orphaned first one, and resumes where that one ended."""
    job = make_job(num_train_steps=6, save_every_steps=2)
    first = child({**job, "stop_after_saves": 1})
    first.until("ready_for_kill")
    second = child(job)
    time.sleep(2.0)
    assert second.process.poll() is None
    first.kill()
    assert second.finish() == 0
    assert second.named("restored")[0]["train_step"] == 2


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_an_absent_device_is_an_error(child: Start, tmp_path: Path, device: str) -> None:
    """Requesting a device that is missing is an error that names the existing ones."""
    found = _error(child({"device": device, "folder": str(tmp_path / "x" / "y")}, "probe"))
    assert (found["code"], "cpu" in found["hint"]) == ("T101", True)


def test_probe_reports_the_machine(child: Start, tmp_path: Path) -> None:
    """One event with platform, devices and libraries."""
    run = child({"device": "auto", "folder": str(tmp_path / "x" / "y")}, "probe")
    assert run.finish() == 0
    (event,) = run.events
    assert (event["event"], event["report"]["platform"]) == ("finished", "cpu")
    assert {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint"} == set(event["report"]["libraries"])


def test_the_allocator_is_set_before_jax_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variables that jaxlib reads; both names of the fraction together would be an error there."""
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    monkeypatch.setattr(os, "environ", environment)
    device.select("gpu", Allocator("platform", preallocate=False, fraction=0.9))
    expected = {"ALLOCATOR": "platform", "PREALLOCATE": "false"}
    assert {key: environment[f"XLA_PYTHON_CLIENT_{key}"] for key in expected} == expected
    assert environment["XLA_CLIENT_MEM_FRACTION"] == "0.9"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment


@pytest.mark.parametrize(
    ("environment", "fraction"),
    [({}, "0.9"), ({"XLA_CLIENT_MEM_FRACTION": "0.5"}, "0.5"), ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}, None)],
)
def test_without_an_allocator_a_run_takes_nine_tenths(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], fraction: str | None
) -> None:
    """JAX alone would take three quarters. A variable that the person has set wins, under either name."""
    monkeypatch.setattr(os, "environ", environment)
    device.select("gpu")
    assert environment.get("XLA_CLIENT_MEM_FRACTION") == fraction
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in environment


def test_an_allocator_does_nothing_on_a_cpu_and_the_report_says_so(child: Start, tmp_path: Path) -> None:
    """The job accepts it all the same: one run-spec works on the GPU and the laptop."""
    allocator = {"kind": "bfc", "preallocate": True, "fraction": 0.9}
    run = child({"device": "cpu", "allocator": allocator, "folder": str(tmp_path / "x")}, "probe")
    assert run.finish() == 0
    assert run.events[0]["report"]["allocator"] is None


def test_libraries_that_do_not_fit_are_one_sentence(make_job: Callable[..., Any], child: Start) -> None:
    """flax beside a jax that it does not know fails while it is imported: M111 with the releases, and what to type."""
    run = child(make_job(), prelude="import sys; sys.modules['flax.nnx'] = None")
    assert run.finish() == 2
    (found,) = run.events[-1]["diagnostics"]
    assert (found["code"], run.named("started")) == ("M111", [])
    assert found["message"].startswith(
        f"the installed libraries cannot be imported together (flax {flax.__version__}, jax "
    )
    assert found["hint"].startswith("pip install --upgrade 'runspec-engine[train]'")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_job_is_an_error(tmp_path: Path, text: str) -> None:
    """A file that is not a job is an error event, not a traceback."""
    path = tmp_path / "job.json"
    path.write_text(text)
    with subprocess.Popen(
        [sys.executable, "-m", "engine.trainer", "train", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        event = json.loads(run.stdout.readline())
        assert (run.wait(), event["diagnostics"][0]["code"]) == (2, "T115")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_several_devices_train_as_one(
    make_job: Callable[..., Any], child: Start, metrics_of: Callable[..., Any], devices: int, tmp_path: Path
) -> None:
    """The same sequences on several (simulated) devices give the losses of one, and resume.

    The single device draws its weights; the several read the same ones from a folder, each its own shards.
    """
    one = make_job("one", per_device_batch_size=4, num_train_steps=4, save_every_steps=2, learning_rate=1e-4)
    many = make_job("many", per_device_batch_size=4 // devices, num_train_steps=4, save_every_steps=2,
                    learning_rate=1e-4)  # fmt: skip
    drawn = load_model(model_source(one["model"]), "float32", one["args"]["seed"], print, bool)
    save_folder(tmp_path / "drawn", drawn.module, drawn.config, drawn.tokenizer, dtype="float32")
    many["model"] = {**one["model"], "init": "pretrained", "path": str(tmp_path / "drawn")}
    assert child(one).finish() == 0
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
    }
    first = child({**many, "stop_after_saves": 1}, env=environment)
    assert len(first.until("started")["devices"]) == devices
    first.until("ready_for_kill")
    first.kill()
    again = child(many, env=environment)
    assert again.finish() == 0
    assert again.named("restored")[0]["train_step"] == 2
    losses = [[row["loss"] for row in metrics_of(job)] for job in (one, many)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
