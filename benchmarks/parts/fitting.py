"""What fits where: the largest shape of a train step that a machine has memory for, by the compilers' answers on file.

In: nothing; the answers are in ``what_fits.json`` beside this file, written by ``python benchmarks/what_fits.py --fresh``.
Out: :data:`CASES`, and for each of them and each question the largest shape that fits (:func:`search`).

    case = Case("t4x2", "gemma-2-9b", "in_backward")
    case.find("longest sequence", asking(case, recorded()))      # Found(shape=Shape(512, 1), …)

The engine's own estimate, which is within 15 % of the compilers' (benchmarks/estimates.py), says where to look. The
compiler is then asked there, and about the next larger shape unless the estimate is above the limit by more than that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.model_config.shapes import KNOWN_CONFIGS
from engine.preflight.estimate import estimate
from engine.preflight.exact import limit_bytes
from engine.protocol.device_memory import fits
from engine.protocol.machines import MACHINES
from parts.priced_steps import DEFAULTS, IN_BACKWARD, LORA

RECORD = Path(__file__).with_name("what_fits.json")
MARGIN = 1.15  # the estimate's bar: above the limit by more than this, a shape is not compiled

# Tokens of the longest text that the model was made for: max_position_embeddings of its published configuration.
CONTEXTS: Mapping[str, int] = {
    "gemma-3-270m": 32_768, "gemma-3-1b-pt": 32_768, "gemma-2b": 8192, "gemma-2-2b": 8192,
    "gemma-3-4b-pt": 131_072, "gemma-7b": 8192, "gemma-2-9b": 8192, "gemma-3-12b-pt": 131_072,
}  # fmt: skip
BF16 = {"dtype": "bfloat16", "optimizer": "adafactor", "remat": "block"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "full": BF16, "in_backward": BF16 | IN_BACKWARD, "lora": BF16 | LORA,
}  # fmt: skip
TARGETS = ("t4x2", "v5e-8", "l4", "a100", "h100")
SHORT, MOST_ROWS = 512, 256  # tokens of a row of the question of the batch; rows at which it ends

Question = Literal["longest sequence", "largest batch"]
QUESTIONS: tuple[Question, ...] = ("longest sequence", "largest batch")


class Shape(NamedTuple):
    """Sequences on one device of the fsdp axis, each of so many tokens."""

    seq_len: int
    rows: int


class Found(NamedTuple):
    """``shape``: the largest that fits, None where none does; ``needed``: its bytes on one device.

    ``source``: "compiler", or "estimate" while the compiler's answer is not on file. ``next_source``: who says that the next
    shape does not fit; None where there is none. Without a shape, ``needed`` is that of the smallest.
    """

    shape: Shape | None
    needed: int
    source: Literal["compiler", "estimate"]
    next_source: Literal["compiler", "estimate"] | None


# A shape's bytes on one device: by the compiler, or None where it was not asked.
Ask = Callable[[Shape], int | None]


@dataclass(frozen=True)
class Case:
    """A model, trained by a method, on a machine."""

    machine: str
    model: str
    method: str

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return dict(KNOWN_CONFIGS[f"google/{self.model}"])

    @property
    def limit(self) -> int:
        """What a run may take of one device, bytes."""
        limit = limit_bytes(MACHINES[self.machine], None)
        assert limit is not None  # of every machine but this computer
        return limit

    def train_args(self, shape: Shape) -> dict[str, Any]:
        """All arguments of train_sft."""
        sizes = {"seq_len": shape.seq_len, "per_device_batch_size": shape.rows}
        return DEFAULTS | dict(METHODS[self.method]) | sizes

    def estimate(self, shape: Shape) -> int:
        """Bytes on one device, by the engine's arithmetic."""
        return estimate(self.config, self.train_args(shape), MACHINES[self.machine], None).needed_bytes

    def name(self, shape: Shape) -> str:
        """``t4x2 gemma-2-9b in_backward 512x1``, unique."""
        return f"{self.machine} {self.model} {self.method} {shape.seq_len}x{shape.rows}"

    def ladder(self, question: Question) -> list[Shape]:
        """The shapes in question, each twice as large as the one before."""
        if question == "largest batch":
            return [Shape(SHORT, 1 << power) for power in range(MOST_ROWS.bit_length())]
        lengths = [SHORT << power for power in range((CONTEXTS[self.model] // SHORT).bit_length())]
        return [Shape(length, 1) for length in lengths]

    def find(self, question: Question, ask: Ask) -> Found:
        """The largest shape of the ladder that fits."""
        return search(self.ladder(question), self.estimate, self.limit, ask)


CASES = tuple(Case(machine, model, method) for machine in TARGETS for model in CONTEXTS for method in METHODS)


def search(ladder: Sequence[Shape], estimate_of: Callable[[Shape], int], limit: int, ask: Ask) -> Found:
    """The largest shape that fits: where the estimate says, then down or up by the compiler's answers.

    Needed bytes grow along the ladder. ``ask`` is not called for a shape of which the estimate alone rules out the smallest.
    """
    answers: dict[int, int | None] = {}

    def fits_at(index: int) -> bool:
        if index not in answers:
            answers[index] = ask(ladder[index])
        asked = answers[index]
        return fits(estimate_of(ladder[index]) if asked is None else asked, limit)

    def source(index: int) -> Literal["compiler", "estimate"]:
        return "estimate" if answers.get(index) is None else "compiler"

    def beyond(index: int) -> bool:
        return not fits(int(estimate_of(ladder[index]) / MARGIN), limit)

    if beyond(0):
        return Found(None, estimate_of(ladder[0]), "estimate", None)
    index = max((at for at, shape in enumerate(ladder) if fits(estimate_of(shape), limit)), default=0)
    while not fits_at(index):
        if index == 0:
            return Found(None, answers[0] or estimate_of(ladder[0]), source(0), None)
        index -= 1
    while index + 1 < len(ladder) and not beyond(index + 1) and fits_at(index + 1):
        index += 1
    needed = answers[index] or estimate_of(ladder[index])
    return Found(ladder[index], needed, source(index), source(index + 1) if index + 1 < len(ladder) else None)


def recorded() -> dict[str, dict[str, Any]]:
    """Name of a case and shape -> the compiler's answer."""
    if not RECORD.exists():
        return {}
    answers: dict[str, dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return answers


def asking(case: Case, answers: Mapping[str, Mapping[str, Any]]) -> Ask:
    """Answers from a record."""

    def ask(shape: Shape) -> int | None:
        answer = answers.get(case.name(shape))
        return None if answer is None else int(answer["needed_bytes"])

    return ask
