"""Train steps whose memory is estimated and compiled: over models, methods, remat policies, meshes and machines.

In: nothing. Out: :data:`STEPS`, and what the machines' compilers answered for them (``compiled_memory.json`` beside this
file, written by ``python benchmarks/estimates.py --fresh``).

    step = STEPS[0]
    recorded()[step.name]["needed_bytes"]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.model_config.shapes import KNOWN_CONFIGS
from engine.steps.schemas import step_schema

RECORD = Path(__file__).with_name("compiled_memory.json")
SCHEMA = step_schema("train_sft")["properties"]
DEFAULTS = {name: entry.get("default") for name, entry in SCHEMA.items()} | {"num_train_steps": 100}
TINY = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32,
}  # fmt: skip

F32 = {"dtype": "float32", "optimizer": "adamw"}
LORA = {"method": "lora", "lora_rank": 16, "optimizer": "adamw"}
BF16_IN_F32 = {"dtype": "bfloat16", "optimizer": "adamw", "matmul_dtype": "float32"}
F32_IN_BF16 = {**F32, "matmul_dtype": "bfloat16"}
IN_BACKWARD = {"update": "in_backward", "max_grad_norm": None}


@dataclass(frozen=True)
class PricedStep:
    """``rows`` sequences of ``seq_len`` tokens on one device along fsdp; bfloat16 and Adafactor unless ``args`` say otherwise."""

    machine: str
    model: str
    remat: str
    seq_len: int
    rows: int
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``t4 gemma-3-270m none 512x16 lora_rank=16 …``, unique."""
        more = " ".join(f"{key}={value}" for key, value in self.args.items())
        return f"{self.machine} {self.model} {self.remat} {self.seq_len}x{self.rows} {more}".strip()

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return TINY if self.model == "tiny" else {"model_type": "gemma", **KNOWN_CONFIGS[f"google/{self.model}"]}

    @property
    def train_args(self) -> dict[str, Any]:
        """All arguments of train_sft."""
        shape = {"per_device_batch_size": self.rows, "seq_len": self.seq_len, "remat": self.remat}
        return DEFAULTS | {"dtype": "bfloat16", "optimizer": "adafactor"} | shape | dict(self.args)


def recorded() -> dict[str, dict[str, Any]]:
    """Name of a step -> the compiler's answer."""
    answers: dict[str, dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return answers


STEPS = (
    # every policy, full training
    PricedStep("t4", "gemma-3-270m", "none", 512, 16),
    PricedStep("t4", "gemma-3-270m", "dots", 512, 16),
    PricedStep("t4", "gemma-3-270m", "block", 512, 16),
    PricedStep("t4", "gemma-3-270m", "offload", 512, 16),
    PricedStep("t4", "gemma-3-270m", "none", 512, 4, F32),
    PricedStep("t4", "gemma-3-270m", "auto", 512, 8),
    PricedStep("t4", "gemma-3-1b-pt", "block", 512, 4),
    PricedStep("t4", "gemma-2b", "block", 512, 1),
    PricedStep("t4", "gemma-2b", "block", 512, 1, IN_BACKWARD),
    PricedStep("v5e-1", "gemma-3-270m", "none", 512, 8),
    PricedStep("v5e-1", "gemma-3-270m", "dots", 512, 16),
    PricedStep("v5e-1", "gemma-3-1b-pt", "dots", 512, 4),
    PricedStep("v5e-1", "gemma-2b", "block", 512, 1),
    PricedStep("v5e-1", "gemma-2b", "block", 512, 1, IN_BACKWARD),
    PricedStep("l4", "gemma-3-1b-pt", "none", 512, 4, {"grad_accum_steps": 4}),
    PricedStep("a100", "gemma-2b", "dots", 1024, 4, {"master_weights": True}),
    PricedStep("h100", "gemma-2b", "none", 512, 8, F32),
    PricedStep("h100", "gemma-3-1b-pt", "none", 4096, 4),
    # adapters
    PricedStep("t4", "gemma-3-1b-pt", "none", 512, 2, LORA),
    PricedStep("t4", "gemma-3-1b-pt", "dots", 512, 2, LORA),
    PricedStep("t4", "gemma-2b", "block", 512, 4, LORA),
    PricedStep("t4", "gemma-3-270m", "none", 512, 8, LORA),
    PricedStep("l4", "gemma-2b", "block", 1024, 4, LORA),
    PricedStep("v5e-1", "gemma-2b", "none", 512, 2, LORA),
    PricedStep("h100", "gemma-2-9b", "dots", 1024, 4, LORA),
    # meshes
    PricedStep("t4x2", "gemma-2b", "block", 512, 1),
    PricedStep("t4x2", "gemma-3-1b-pt", "none", 512, 4, LORA),
    PricedStep("t4x2", "gemma-2b", "block", 512, 2, {"mesh": {"tp": 2}}),
    PricedStep("v5e-8", "gemma-2b", "block", 2048, 1),
    PricedStep("v5e-8", "gemma-2b", "block", 512, 1, F32),
    PricedStep("v5e-8", "gemma-2b", "block", 8192, 1),
    PricedStep("v5e-8", "gemma-2b", "dots", 1024, 4, {"mesh": {"fsdp": 4, "tp": 2}}),
    PricedStep("h100x8", "gemma-2-9b", "none", 1024, 2, {"mesh": {"fsdp": 4, "tp": 2}}),
    PricedStep("t4x2", "gemma-2b", "auto", 512, 2),
    # this computer; up to eight layers are unrolled, and the compiler recomputes what it wants
    PricedStep("cpu", "tiny", "none", 128, 16, F32),
    PricedStep("cpu", "gemma-3-270m", "block", 256, 4, F32),
    PricedStep("cpu", "gemma-3-270m", "dots", 256, 4, F32),
    PricedStep("cpu", "gemma-3-270m", "none", 256, 4, F32),
    PricedStep("cpu", "tiny", "block", 128, 16, F32),
    # its compiler computes bfloat16 elementwise in float32; matmuls declared, since processors differ in what auto means
    PricedStep("cpu", "gemma-3-270m", "block", 256, 4, BF16_IN_F32),
    PricedStep("cpu", "gemma-3-270m", "dots", 256, 4, BF16_IN_F32),
    PricedStep("cpu", "gemma-3-270m", "none", 256, 4, BF16_IN_F32),
    PricedStep("cpu", "gemma-3-270m", "none", 256, 4, F32_IN_BF16),
)
