"""The arguments of a training run. The run-spec's schema has their descriptions and ranges.

Each argument's definition says what it affects; whatever depends on that reads it here:

``state``         weights and metrics: with another value it is another training run, which resumes no checkpoint
``program``       the compiled train step and the memory it needs: with another value ``plan --exact`` compiles again
``packing_plan``  which rows share which sequence: with another value the cached plan is made again
``batch_shape``   how the global batch is split: may differ where a run resumes on other devices
``files``         which files are written or kept: no weight or metric depends on it
``tracking``      what is measured or reported besides: no part of the fingerprint

    >>> names_affecting("packing_plan")
    ('seq_len', 'packing', 'on_long_row', 'eval_rows', 'seed')

The step's schema says the same under ``x-affects``; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Effect = Literal["state", "program", "packing_plan", "batch_shape", "files", "tracking"]

PLAIN_ATTENTION_TOKENS = 1024
# What the backward pass recomputes, by what is saved for it: from the fastest policy to the smallest.
REMAT = ("none", "dots", "block", "offload")


def _arg(*effects: Effect, **default: Any) -> Any:
    return field(metadata={"affects": frozenset(effects)}, **default)


@dataclass(frozen=True, slots=True)
class MeshArgs:
    """The mesh as declared; ``fsdp`` null: all devices that ``tp`` leaves."""

    fsdp: int | None = None
    tp: int = 1


@dataclass(frozen=True, slots=True)
class ProfileArgs:
    """The train steps that the profiler traces: ``steps`` of them from ``start`` on."""

    start: int
    steps: int


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """Lengths in tokens, sizes in sequences, times in optimizer steps ("train steps")."""

    num_train_steps: int = _arg("state")
    per_device_batch_size: int = _arg("state", "program", "batch_shape")
    grad_accum_steps: int = _arg("state", "program", "batch_shape")
    seq_len: int = _arg("state", "program", "packing_plan")
    optimizer: Literal["adamw", "adafactor"] = _arg("state", "program")
    learning_rate: float = _arg("state")
    lr_schedule: Literal["constant", "linear", "cosine"] = _arg("state")
    warmup_steps: int = _arg("state")
    weight_decay: float = _arg("state")
    max_grad_norm: float | None = _arg("state")
    adam_b1: float = _arg("state")
    adam_b2: float = _arg("state")
    adam_eps: float = _arg("state")
    dtype: Literal["float32", "bfloat16"] = _arg("state", "program")
    packing: bool = _arg("state", "program", "packing_plan")
    on_long_row: Literal["fail", "drop", "truncate", "split"] = _arg("state", "packing_plan")
    eval_rows: int = _arg("state", "packing_plan")
    eval_every_steps: int = _arg("state")
    save_every_steps: int = _arg("files")
    keep_checkpoints: int = _arg("files")
    log_every_steps: int = _arg("files")
    seed: int = _arg("state", "packing_plan")
    method: Literal["full", "lora"] = _arg("state", "program", default="full")
    lora_rank: int = _arg("state", "program", default=16)
    lora_alpha: float = _arg("state", "program", default=32.0)
    lora_rslora: bool = _arg("state", "program", default=False)
    lora_dropout: float = _arg("state", "program", default=0.0)
    lora_targets: tuple[str, ...] = _arg(
        "state",
        "program",
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    )
    lora_merge: bool = _arg("state", default=False)
    update: Literal["after_backward", "in_backward"] = _arg("state", "program", default="after_backward")
    master_weights: bool = _arg("state", "program", default=False)
    remat: Literal["auto", "none", "dots", "block", "offload"] = _arg("state", "program", default="auto")
    attention: Literal["auto", "plain", "blocked", "fused"] = _arg("state", "program", default="auto")
    matmul_dtype: Literal["auto", "float32", "bfloat16", "float16"] = _arg("state", "program", default="auto")
    max_skipped_steps: int = _arg("files", default=0)
    keep_every_steps: int | None = _arg("files", default=None)
    keep_best: int | None = _arg("files", default=None)
    export: Literal["last", "best"] = _arg("files", default="last")
    on_other_devices: Literal["refuse", "reshard"] = _arg("files", default="refuse")
    export_formats: tuple[str, ...] = _arg("files", default=("safetensors",))
    report_to: tuple[str, ...] = _arg("tracking", default=())
    profile: ProfileArgs | None = _arg("tracking", default=None)
    global_batch_size: int | None = _arg("state", "program", "batch_shape", default=None)
    mesh: MeshArgs = _arg("state", "program", "batch_shape", default=MeshArgs())
    cluster: Literal["none", "auto"] = _arg("files", default="none")  # read by the side that starts the processes

    @property
    def blocked(self) -> bool:
        """Attention in blocks: above this length the scores would need the most memory."""
        return self.attention == "blocked" or (self.attention == "auto" and self.seq_len > PLAIN_ATTENTION_TOKENS)

    def identity(self) -> dict[str, Any]:
        """The arguments that can change a weight or a metric; the others may differ between two attempts."""
        values = {name: getattr(self, name) for name in names_affecting("state")}
        return {**values, "mesh": (self.mesh.fsdp, self.mesh.tp)}


def effects() -> Mapping[str, frozenset[Effect]]:
    """Argument -> what it affects."""
    return {argument.name: argument.metadata["affects"] for argument in fields(TrainArgs)}


def names_affecting(effect: Effect) -> tuple[str, ...]:
    """The arguments that affect it, in the order of their definition."""
    return tuple(name for name, affected in effects().items() if effect in affected)


def remat_policies(declared: str, update: str, platform: str) -> tuple[str, ...]:
    """The policies that a run may take, in the order in which it tries them: it takes the first that fits.

    >>> remat_policies("auto", "after_backward", "cpu"), remat_policies("dots", "after_backward", "gpu")
    (('none', 'dots', 'block'), ('dots',))
    """
    if update == "in_backward":
        return ("block",)  # this is what it does, whatever is declared
    if declared != "auto":
        return (declared,)
    # Offloading to the host frees nothing where the device is the host.
    return tuple(remat for remat in REMAT if remat != "offload" or platform != "cpu")
