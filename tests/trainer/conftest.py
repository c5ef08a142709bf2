"""A Gemma of six thousand weights, rows for it, and two ways to train it: in this process and as a child."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from engine.canonical import without_measurements
from engine.protocol.jobs import train_args as train_args_of
from engine.protocol.train_args import TrainArgs
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.models import config_from_hf
from engine.trainer.models.gemma import Gemma, weight_shapes
from tests.fixtures.events import log_into, train_job
from tests.fixtures.tiny_models import (  # noqa: F401 - pytest finds fixtures by their names here
    bf16_bounds,
    compare,
    golden,
    golden_kinds,
    golden_model,
    held,
    kinds,
    make_model,
    model_type,
    reference,
    tiny_mapping,
    tokens_and_positions,
)
from tests.fixtures.tokenizers import (  # noqa: F401
    gemma_files,
    maker,
    tokenizers_by_name,
    with_template,
)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = Path(__file__).parent.parent.parent
MICRO = {
    "model_type": "gemma", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
ARGS = {
    "num_train_steps": 12, "per_device_batch_size": 2, "grad_accum_steps": 1, "seq_len": 48, "optimizer": "adamw",
    "learning_rate": 4e-3, "lr_schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.01, "max_grad_norm": 1.0,
    "adam_b1": 0.9, "adam_b2": 0.999, "adam_eps": 1e-8, "dtype": "float32", "packing": True, "on_long_row": "fail",
    "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 3, "keep_checkpoints": 2, "log_every_steps": 1,
    "seed": 42,
}  # fmt: skip
# What `python -m engine.trainer` does; a prelude may come before it.
RUN_MODULE = "import runpy; runpy.run_module('engine.trainer', run_name='__main__', alter_sys=True)"
Job = dict[str, Any]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where the tests of a file share the first uninterrupted run of its standard job: its folder, and what they note of it."""
    return {"root": tmp_path_factory.mktemp("first_run")}


@pytest.fixture(scope="session")
def make_args() -> Callable[..., TrainArgs]:
    """Arguments of a small training run, with changes."""
    return lambda **changes: train_args_of({**ARGS, **changes})


@pytest.fixture(scope="session")
def micro_model() -> Callable[..., Any]:
    """A fresh micro Gemma; ``dtype`` of weights and activations."""
    config = config_from_hf({**MICRO, "vocab_size": 260})

    def make(dtype: str = "float32") -> Any:
        kind = jnp.dtype(dtype)
        draw = np.random.default_rng(0)
        weights = {
            name: jnp.asarray(0.1 * draw.normal(size=shape), kind) for name, shape in weight_shapes(config).items()
        }
        return Gemma(config, weights, compute_dtype=kind)

    return make


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., list[TokenRow]]:
    """Rows of random tokens: BOS, an untrained part, a trained part, lengths from ``shortest`` to ``longest``."""

    def make(count: int, *, shortest: int = 4, longest: int = 20, seed: int = 0) -> list[TokenRow]:
        draw = random.Random(seed)
        rows = []
        for index in range(count):
            length = draw.randint(shortest, longest)
            trained = draw.randint(1, length - 2)
            tokens = (2, *(draw.randint(4, 259) for _ in range(length - 1)))
            rows.append(TokenRow(f"r{index}", tokens, (0,) * (length - trained) + (1,) * trained))
        return rows

    return make


@pytest.fixture(scope="session", autouse=True)
def jax_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One compilation cache for these tests and their children: nothing is compiled twice."""
    folder = tmp_path_factory.mktemp("jax_cache")
    jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    yield folder
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


@pytest.fixture
def make_job(tmp_path: Path, jax_cache: Path) -> Callable[..., Job]:
    """A train job in a folder of its own; keyword arguments change its args."""

    def make(name: str = "a", **changes: Any) -> Job:
        root = tmp_path / name
        root.mkdir()
        draw = random.Random(0)
        rows = []
        for index in range(40):
            a, b = draw.randint(1, 99), draw.randint(1, 99)
            segments = [{"text": f"{a}+{b}=", "train": False}, {"text": str(a + b), "train": True}]
            rows.append({"id": f"r{index}", "segments": segments})
        (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "model": {"init": "random", "id": "micro", "revision": None, "path": None, "config": MICRO,
                      "tokenizer": "chars"},
            "rows": str(root / "rows.jsonl"), "render": "reasoning@v1", "work": str(root / "work"),
            "out": str(root / "out"), "device": "cpu", "cache": str(jax_cache), "args": {**ARGS, **changes},
        }  # fmt: skip

    return make


class Child:
    """The trainer's process: its events as they come, and its end."""

    def __init__(self, verb: str, job: Mapping[str, Any], prelude: str = "", **popen: Any) -> None:
        work = Path(job["work"]) if "work" in job else Path(job["folder"])
        work.parent.mkdir(parents=True, exist_ok=True)
        path = work.parent / "job.json"
        path.write_text(json.dumps({name: value for name, value in job.items() if name != "folder"}))
        self.stderr_path = work.parent / "stderr.log"
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{prelude}\n{RUN_MODULE}", verb, str(path)], cwd=REPOSITORY, stderr=stderr,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen,
            )  # fmt: skip
        self.events: list[Event] = []

    def __iter__(self) -> Iterator[Event]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.events.append(json.loads(line))  # a line that is not JSON fails the test
                yield self.events[-1]

    def until(self, name: str) -> Event:
        """Read up to the first event of this name."""
        return next(event for event in self if event["event"] == name)

    def finish(self) -> int:
        """Read to the end; the exit code."""
        for _ in self:
            pass
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL, and read the remaining output."""
        self.process.send_signal(signal.SIGKILL)
        self.finish()

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start a child, ``prelude`` being code that runs in it first; none survives the test."""
    started: list[Child] = []

    def start(job: Mapping[str, Any], verb: str = "train", **popen: Any) -> Child:
        started.append(Child(verb, job, **popen))
        return started[-1]

    yield start
    for child_ in started:
        if child_.process.poll() is None:
            child_.process.kill()
        child_.process.wait()
        for stream in (child_.process.stdin, child_.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def train_here() -> Callable[..., list[Event]]:
    """Train in this process; returns the events. ``stop_after``: request a stop once this train step was reported."""
    from engine.trainer.train import run_train

    def run(job: Job, stop_after: int | None = None) -> list[Event]:
        events: list[Event] = []

        def stopping() -> bool:
            last = max((event["train_step"] for event in events if event["event"] == "train_step"), default=0)
            return stop_after is not None and last >= stop_after

        run_train(train_job(job), log_into(events), stopping)
        return events

    return run


@pytest.fixture(scope="session")
def copy_of() -> Callable[[Job, Path], Job]:
    """``copy_of(job, folder)``: the same finished job with copies of its rows and folders, to keep or to spoil."""

    def copy(job: Job, folder: Path) -> Job:
        folders = {name: str(shutil.copytree(job[name], folder / name)) for name in ("work", "out")}
        return {**job, **folders, "rows": str(shutil.copy(job["rows"], folder))}

    return copy


def final_state(job: Job) -> dict[str, np.ndarray]:
    """The arrays of a job's newest checkpoint: weights, statistics, step."""
    newest = sorted((Path(job["work"]) / "checkpoints").iterdir())[-1]
    arrays = ocp.StandardCheckpointer().restore(newest / "state")
    return {name: np.asarray(array) for name, array in arrays.items()}


@pytest.fixture
def same_training() -> Callable[[Job, Job], None]:
    """Asserts that two finished jobs ended in the same bytes: state, metrics without times, model folder."""

    def check(expected: Job, actual: Job) -> None:
        left, right = final_state(expected), final_state(actual)
        assert left.keys() == right.keys()
        assert [name for name in left if left[name].tobytes() != right[name].tobytes()] == []
        assert metrics(expected) == metrics(actual)
        weights = [(Path(job["out"]) / "model" / "model.safetensors").read_bytes() for job in (expected, actual)]
        assert weights[0] == weights[1]

    return check


def metrics(job: Job) -> list[dict[str, Any]]:
    """Rows without figures of a clock or an allocator."""
    lines = (Path(job["out"]) / "metrics.jsonl").read_text().splitlines()
    return [without_measurements(json.loads(line)) for line in lines]


@pytest.fixture
def metrics_of() -> Callable[[Job], list[dict[str, Any]]]:
    """:func:`metrics` for tests."""
    return metrics


@pytest.fixture
def deadline() -> Callable[[float], Any]:
    """``with deadline(5): …`` fails if it takes longer."""

    @contextmanager
    def within(seconds: float) -> Iterator[None]:
        started = time.monotonic()
        yield
        assert time.monotonic() - started < seconds

    return within


@pytest.fixture(scope="session")
def is_root() -> bool:
    """Permissions do not restrict root."""
    return os.geteuid() == 0
