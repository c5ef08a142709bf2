"""The hyper-parameters of a training job, as a value. The run-spec's schema has their descriptions and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from engine.errors import InputInvalid
from engine.trainer.config.batch_shape import BatchShape, batch_shape
from engine.trainer.config.mesh import ALL_ON_FSDP, MeshArgs

PLAIN_ATTENTION_TOKENS = 1024
# With other values of these an interrupted training goes on: they change no state. The schema says the same of them.
RESUMABLE = (
    "save_every_steps",
    "keep_checkpoints",
    "keep_every_steps",
    "keep_best",
    "log_every_steps",
    "max_skipped_steps",
    "export",
    "export_formats",
    "on_other_devices",
    "report_to",
    "profile",
    "cluster",
)


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """Lengths in tokens, sizes in sequences, times in optimizer steps ("train steps")."""

    num_train_steps: int
    per_device_batch_size: int
    grad_accum_steps: int
    seq_len: int
    optimizer: Literal["adamw", "adafactor"]
    learning_rate: float
    lr_schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float | None
    adam_b1: float
    adam_b2: float
    adam_eps: float
    dtype: Literal["float32", "bfloat16"]
    packing: bool
    on_long_row: Literal["fail", "drop", "truncate", "split"]
    eval_rows: int
    eval_every_steps: int
    save_every_steps: int
    keep_checkpoints: int
    log_every_steps: int
    seed: int
    method: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_rslora: bool = False
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    lora_merge: bool = False
    update: Literal["after_backward", "in_backward"] = "after_backward"
    master_weights: bool = False
    remat: Literal["auto", "none", "dots", "block", "offload"] = "auto"
    attention: Literal["auto", "plain", "blocked"] = "auto"
    matmul_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_skipped_steps: int = 0
    keep_every_steps: int | None = None
    keep_best: int | None = None
    export: Literal["last", "best"] = "last"
    on_other_devices: Literal["refuse", "reshard"] = "refuse"
    export_formats: tuple[str, ...] = ("safetensors",)
    report_to: tuple[str, ...] = ()
    profile: Mapping[str, int] | None = None
    global_batch_size: int | None = None
    mesh: MeshArgs = ALL_ON_FSDP
    cluster: Literal["none", "auto"] = "none"  # read by those who start the processes

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainArgs:
        """From a job. Raises InputInvalid T115 naming keys that are missing or that nobody reads."""
        known = {field.name: field.default is MISSING for field in fields(cls)}
        missing = sorted(name for name, needed in known.items() if needed and name not in values)
        unknown = sorted(set(values) - set(known))
        if missing or unknown:
            raise InputInvalid("T115", f"the job's args miss {missing} and have {unknown} that nobody reads")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        if "mesh" in plain:
            plain["mesh"] = MeshArgs.of(plain["mesh"])
        return cls(**plain)

    @property
    def blocked(self) -> bool:
        """Attention in blocks: above this length its scores are the largest thing in memory."""
        return self.attention == "blocked" or (self.attention == "auto" and self.seq_len > PLAIN_ATTENTION_TOKENS)

    def batch(self, places: int) -> BatchShape:
        """The sequences of a train step over this many places of fsdp. Raises InputInvalid T165, T166."""
        return batch_shape(
            self.global_batch_size,
            self.per_device_batch_size,
            self.grad_accum_steps,
            places=places,
            most_micro_batches=1 if self.update == "in_backward" else None,
        )

    def identity(self) -> dict[str, Any]:
        """The arguments that can change a weight or a metric; the others may change between two attempts."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in RESUMABLE}
