"""The trainer's jobs: one frozen dataclass for each verb of ``python -m engine.trainer VERB JOB.json``.

In: paths, arguments, a device; never a run-spec. Out: the JSON of the job file, and from it an equal value. A field
that is unknown, missing or mistyped is InputInvalid T115, which names it.

    >>> job_json(ProbeJob(device="cpu"))
    {'device': 'cpu', 'allocator': None}
    >>> read_job("probe", {"device": "cpu", "gpu": 1})
    Traceback (most recent call last):
        ...
    engine.errors.InputInvalid: error[T115]: the job of "probe" has an unknown field "gpu"; there are: device, allocator
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from engine.errors import InputInvalid, Where
from engine.protocol.codec import FieldError, from_json, to_json
from engine.protocol.deadline import Deadline
from engine.protocol.device_memory import Allocator
from engine.protocol.generate_args import GenerateArgs
from engine.protocol.sessions import RunSession
from engine.protocol.train_args import TrainArgs

T = TypeVar("T")
Device = Literal["auto", "cpu", "gpu", "tpu"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the weights come from: ``path``, Kaggle's model ``kaggle``, or the hub's ``id`` at ``revision``; with ``init`` random, ``config``."""

    init: Literal["pretrained", "random"]
    id: str
    revision: str | None
    path: str | None
    config: Mapping[str, Any] | None  # with Hugging Face's keys
    tokenizer: str | None
    kaggle: str | None = None  # owner/model/framework/variation/version


@dataclass(frozen=True, slots=True)
class Cluster:
    """The processes that train together. ``how`` auto: JAX finds them (SLURM, Kubernetes, Cloud TPU)."""

    how: Literal["auto", "named"] = "named"
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    join_seconds: int | None = None
    silent_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """The prompts for the trained model: those that are too long are refused before the first train step."""

    prompts: str
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Job:
    """The base of all jobs. ``verb``: its name on the command line."""

    verb: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class TrainJob(Job):
    """Train, export, report.

    ``rows``     rows.jsonl of a dataset, rendered by ``render``
    ``work``     checkpoints and metrics that survive a kill
    ``out``      an empty folder for ``model/``, ``metrics.jsonl`` and ``train_report.json``
    ``cache``    shared by runs: tokenized rows, compiled programs; null: a folder in ``work``
    ``reports``  where loggers keep their files; null: a folder in ``work``. ``run_name``: the run's name there
    ``stop_at``  the train step to end at; the schedule stays that of the full run. ``stop_after_saves``: after so many
                 checkpoints the trainer emits ``ready_for_kill`` and waits for the kill
    ``session``  the attempt that this training run belongs to, for its chain; ``deadline``: when it has to end
    """

    verb: ClassVar[str] = "train"
    model: ModelSource
    rows: str
    render: str
    work: str
    out: str
    device: Device
    args: TrainArgs
    cache: str | None = None
    questions: Questions | None = None
    reports: str | None = None
    run_name: str | None = None
    allocator: Allocator | None = None
    cluster: Cluster | None = None
    stop_at: int | None = None
    stop_after_saves: int | None = None
    session: RunSession | None = None
    deadline: Deadline | None = None


@dataclass(frozen=True, slots=True)
class FollowJob(Job):
    """Train along with process 0 of a cluster, which sends the job. ``work``: for this process alone."""

    verb: ClassVar[str] = "follow"
    work: str
    device: Device
    cluster: Cluster
    allocator: Allocator | None = None
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class GenerateJob(Job):
    """Answer prompts. ``model``: the base, needed where ``model_dir`` holds adapters only. ``out``, ``report``: files."""

    verb: ClassVar[str] = "generate"
    model_dir: str
    prompts: str
    out: str
    report: str
    work: str
    args: GenerateArgs
    model: ModelSource | None = None
    device: Device = "auto"
    cache: str | None = None
    allocator: Allocator | None = None
    deadline: Deadline | None = None


@dataclass(frozen=True, slots=True)
class FetchJob(Job):
    """Fetch the first of these files of a dataset repository into the hub's cache. Report: {path, commit}."""

    verb: ClassVar[str] = "fetch"
    hub: str
    revision: str | None
    any_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PriceJob(Job):
    """Compile the train step for a machine that need not be present, and report its memory.

    ``machine``          a name of engine.protocol.machines
    ``limit_bytes``      what a run may take of one device (engine.protocol.device_memory); null: unknown
    ``compilers``        the folder of the TPU's and GPU's compilers, or null
    ``config``           the model's configuration, with Hugging Face's keys
    ``targets_per_row``  trained tokens of a row; null: all but the first
    ``dump``             an empty folder: the report then names the buffers that are live at the peak
    """

    verb: ClassVar[str] = "price"
    machine: str
    config: Mapping[str, Any]
    args: TrainArgs
    limit_bytes: int | None = None
    compilers: str | None = None
    targets_per_row: int | None = None
    dump: str | None = None
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class ShardingsJob(Job):
    """How the weights would be sharded over so many devices. Report: {mesh, batch, rows}."""

    verb: ClassVar[str] = "shardings"
    config: Mapping[str, Any]
    args: TrainArgs
    devices: int
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class TokensJob(Job):
    """Tokens of each row of ``rows``, into ``out``. ``tokenizer``: a model folder; null: one token a character."""

    verb: ClassVar[str] = "tokens"
    rows: str
    out: str
    tokenizer: str | None


@dataclass(frozen=True, slots=True)
class ProbeJob(Job):
    """Which devices there are. Report: {devices, platform, device_kind, …}."""

    verb: ClassVar[str] = "probe"
    device: Device
    allocator: Allocator | None = None


WHEN_TOLD = "when-told"  # third argument of a process that is started early, and begins when its parent writes to it
JOBS: dict[str, type[Job]] = {
    job.verb: job for job in (TrainJob, FollowJob, GenerateJob, FetchJob, PriceJob, ShardingsJob, TokensJob, ProbeJob)
}


def job_json(job: Job) -> dict[str, Any]:
    """The mapping of a job file."""
    values: dict[str, Any] = to_json(job)
    return values


def read_job(verb: str, values: object, file: str | None = None) -> Job:
    """The job of this verb. Raises InputInvalid T115 naming the field that is unknown, missing or mistyped."""
    try:
        return from_json(JOBS[verb], values)
    except FieldError as error:
        raise bad_job(verb, f"has an {error}" if str(error).startswith("unknown") else str(error), file) from error


def read_job_file(verb: str, path: Path) -> Job:
    """The job of this verb in a JSON file. Raises InputInvalid T115, OSError."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise bad_job(verb, f"is not JSON: {error}", str(path)) from error
    return read_job(verb, values, str(path))


def bad_job(verb: str, what: str, file: str | None = None) -> InputInvalid:
    """T115: ``what`` is wrong with a job."""
    separator = " " if what.startswith(("has ", "is ")) else ": "
    return InputInvalid(
        "T115", f'the job of "{verb}"{separator}{what}', where=None if file is None else Where(file=file)
    )


def train_args(values: object) -> TrainArgs:
    """The arguments of a training run, from a step's ``with``. Raises InputInvalid T115."""
    return _args(TrainArgs, values, "the training run")


def generate_args(values: object) -> GenerateArgs:
    """The arguments of generation, from a step's ``with``. Raises InputInvalid T115."""
    return _args(GenerateArgs, values, "generation")


def _args(cls: type[T], values: object, of: str) -> T:
    try:
        return from_json(cls, values)
    except FieldError as error:
        raise InputInvalid("T115", f"the arguments of {of}: {error}") from error
