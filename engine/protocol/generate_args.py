"""The arguments of generation. The run-spec's schema has their descriptions and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WeightsDtype = Literal["auto", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class GenerateArgs:
    """``temperature`` 0: greedy. ``top_k`` null: all tokens. ``stop``: texts that end an answer.

    ``weights``: how matrices are held and multiplied; "auto" as the model's dtype says.
    """

    max_new_tokens: int
    batch_size: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    weights: WeightsDtype = "auto"
