"""Events of a training run, in their usual order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.protocol.deadline import StopReason
from engine.protocol.events.base import Bar, Event, joined
from engine.protocol.figures import duration, number


@dataclass(frozen=True, slots=True)
class TrainStarted(Event):
    """Model and data are loaded; the train step is compiled next."""

    name: ClassVar[str] = "started"
    devices: tuple[str, ...]
    platform: str
    jax: str
    params: int
    n_rows: int
    mesh: Mapping[str, int]
    batch: Mapping[str, int]
    batches_per_epoch: float
    real_token_share: float
    longest_row_tokens: int
    n_boundary_merges: int
    chat_template_sha256: str | None
    num_train_steps: int

    def _line(self) -> str:
        devices = f", {len(self.devices)} devices" if len(self.devices) > 1 else ""
        share = f"{100 * self.real_token_share:.0f} % of each batch are real tokens"
        return f"on {self.platform}{devices}, {number(self.params)} parameters, {number(self.n_rows)} rows, {share}"


@dataclass(frozen=True, slots=True)
class Compiled(Event):
    """The train step is compiled, with what ``auto`` was resolved to, and why attention is computed as it is."""

    name: ClassVar[str] = "compiled"
    seconds: float
    remat: str
    attention: str
    update: str
    matmul_dtype: str
    attention_because: str = ""

    def _line(self) -> str:
        return f"compiled in {duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class TrainStep(Event):
    """A train step is done: its row of metrics.jsonl and the time left. Sent every ``log_every_steps``, first and last too."""

    name: ClassVar[str] = "train_step"
    bar: ClassVar[Bar | None] = Bar("train step", "train_step", "num_train_steps")
    train_step: int
    num_train_steps: int
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens: int
    tokens_per_second: float
    seconds: float
    input_wait_seconds: float
    seconds_left: float
    eval_loss: float | None = None
    non_finite: Mapping[str, str] | None = None
    mfu: float | None = None
    device_bytes_in_use: int | None = None
    device_peak_bytes: int | None = None
    skipped: bool = False
    warm_up: bool = False
    profiled: bool = False

    def _line(self) -> str:
        loss = number(self.loss) if self.loss is not None else (self.non_finite or {}).get("loss")
        pace = f"{self.tokens_per_second:,.0f} tokens/s"
        done = f"train step {self.train_step}/{self.num_train_steps}"
        return joined(done, loss and f"loss {loss}", pace, f"{duration(self.seconds_left)} left")


@dataclass(frozen=True, slots=True)
class Evaluated(Event):
    """The eval loss over the withheld rows; null where it is not finite, and ``non_finite`` says what it is."""

    name: ClassVar[str] = "eval"
    train_step: int
    eval_loss: float | None
    non_finite: str | None = None

    def _line(self) -> str:
        if self.eval_loss is None:
            return (
                f"evaluated after train step {self.train_step}: the eval loss is {self.non_finite}; "
                "it is recorded as null and is never the best"
            )
        return f"evaluated after train step {self.train_step}: loss {number(self.eval_loss)}"


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """A train step with a non-finite loss or gradient changed nothing. ``most`` in a row are tolerated."""

    name: ClassVar[str] = "skipped"
    train_step: int
    in_a_row: int
    most: int

    def _line(self) -> str:
        return (
            f"train step {self.train_step} was skipped: non-finite loss or gradient "
            f"({self.in_a_row} in a row; {self.most} are tolerated)"
        )


@dataclass(frozen=True, slots=True)
class Profiled(Event):
    """The profiler wrote its trace."""

    name: ClassVar[str] = "profiled"
    first: int
    last: int
    path: str

    def _line(self) -> str:
        return f"traced train steps {self.first} to {self.last}: {self.path}"


@dataclass(frozen=True, slots=True)
class Reporting(Event):
    """A logger of ``report_to`` is open; ``where`` is an address to open or a command to type."""

    name: ClassVar[str] = "reporting"
    logger: str
    where: str

    def _line(self) -> str:
        return f"{self.logger}: {self.where}"


@dataclass(frozen=True, slots=True)
class LoggerFailed(Event):
    """A logger of ``report_to`` failed and gets no more rows; the training run continues."""

    name: ClassVar[str] = "logger_failed"
    logger: str
    reason: str

    def _line(self) -> str:
        return f"{self.logger} gets no more rows, the training run continues: {self.reason}"


@dataclass(frozen=True, slots=True)
class TrainStopped(Event):
    """The training run ended after this train step, on request or for the session limit; its state is saved.

    ``here``: the train steps that this process did and saved; ``needs``: what one more session needs at least, where it did none.
    """

    name: ClassVar[str] = "stopped"
    train_step: int
    reason: StopReason = "request"
    here: int | None = None
    needs: str | None = None

    def _line(self) -> str:
        why = " for the session limit" if self.reason == "deadline" else ""
        return f"stopped after train step {self.train_step}{why}; state saved"


@dataclass(frozen=True, slots=True)
class CadenceChosen(Event):
    """Nobody declared ``save_every_steps``: within a session limit the interval of checkpoints follows from measured seconds."""

    name: ClassVar[str] = "cadence"
    save_every_steps: int
    step_seconds: float
    save_seconds: float

    def _line(self) -> str:
        return (
            f"a checkpoint every {self.save_every_steps} train steps: a step takes {duration(self.step_seconds)}, a save "
            f"{duration(self.save_seconds)}, and save_every_steps is not declared"
        )
