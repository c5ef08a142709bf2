"""The trainer on dev-reasoning-v2 beside `transformers.Trainer` with dynamic padding, a 34.6 M-parameter Gemma on the CPU.

In: nothing. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 if
a bar is missed.

    $ .venv-parity/bin/python benchmarks/train_speed.py [--rounds 3] [--steps 10] [--float32] [--json]

Each trainer as it is run: ours by ``python -m engine.trainer train``, packing into 256 tokens, its input on a thread; each in a
process of its own, taking turns, in float32 and, weights still float32, with bfloat16 matmuls (``matmul_dtype: bfloat16``
against the Trainer's ``bf16=True``; left out with ``--float32``). Every train step has **the same rows** on all sides: ours packs
them into 8 sequences, theirs pads them to the longest of the step. Same weights to begin with, same AdamW, rate and clipping, and
the loss of a step is the mean over its trained tokens: the two loss curves of a dtype must be one. Figures are the tokens that
count in the loss a second, medians of the steps, the first left out. The model is a folder written here, with a tokenizer of the
test fixtures' kind.

``ceiling`` is the upper limit for both in float32: the rate of one large matmul, the best of the run, over the operations that
a real token needs (engine.trainer.tracking.flops), nothing padded. A ratio above ceiling / theirs is impossible on the machine.

torch is not part of the engine; `make parity` makes an environment with it. Elsewhere only ours is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts.gemma import ARGS, BETAS, CLIP, EPS, RATE, REPOSITORY, curve_gap, matmul_rate, token_flops, write_model
from parts.reasoning import Row, dataset_rows, train_ours, trained_rate, write_batches
from parts.table import Fact, report

from engine.protocol.processor import multiplies_bfloat16

RATIO_BAR, BFLOAT16_BAR, OWN_BAR, CURVE_BAR = 1.5, 1.6, 2.0, 0.01
Trained = list[list[Row]]  # of each round, the rows of metrics of its train steps


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=ARGS["num_train_steps"])
    parser.add_argument("--float32", action="store_true", help="leave out the sides in bfloat16")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--theirs", nargs=4, metavar=("MODEL", "BATCHES", "OUT", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        model, batches, out, dtype = options.theirs
        train_theirs(Path(model), Path(batches), Path(out), bfloat16=dtype == "bfloat16")
        return 0
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        return report(measure(Path(folder), options, has_torch=has_torch), as_json=options.json)


def measure(folder: Path, options: argparse.Namespace, *, has_torch: bool) -> list[Fact]:
    """Trained tokens a second of all sides, and how far their losses are apart."""
    model, rows = write_model(folder / "model"), folder / "rows.jsonl"
    rows.write_text(dataset_rows(), encoding="utf-8")
    args = {**ARGS, "num_train_steps": options.steps}
    batches = folder / "batches.json"
    share = write_batches(model, rows, args, batches)
    dtypes = ("float32",) if options.float32 else ("float32", "bfloat16")
    ours: dict[str, Trained] = {dtype: [] for dtype in dtypes}
    theirs: dict[str, Trained] = {dtype: [] for dtype in dtypes if has_torch}
    for number in range(options.rounds):
        for dtype in dtypes:
            here = {**args, "matmul_dtype": dtype}
            ours[dtype].append(train_ours(model, rows, here, folder / f"ours-{dtype}-{number}"))
            if has_torch:
                out = folder / f"theirs-{dtype}-{number}.json"
                command = [sys.executable, str(Path(__file__)), "--theirs", str(model), str(batches), str(out), dtype]
                subprocess.run(command, check=True, cwd=REPOSITORY, stdout=sys.stderr)
                theirs[dtype].append(json.loads(out.read_text()))
    lengths = [len(example["input_ids"]) for step in json.loads(batches.read_text()) for example in step]
    part = sum(row["tokens"] for row in ours["float32"][0]) / sum(lengths)
    facts = [
        Fact(
            "real tokens, packed (peer: padded)" if has_torch else "packed: real tokens",
            share["packed"],
            "of all token positions",
            peer=share["padded"] if has_torch else None,
        ),
        Fact("ceiling, float32", part * matmul_rate() / token_flops(lengths), "tokens/s"),
    ]
    for dtype, bar in zip(dtypes, (RATIO_BAR, BFLOAT16_BAR), strict=False):
        facts += side_by_side(dtype, ours[dtype], theirs.get(dtype), bar)
    if "bfloat16" in ours:
        own = median_ratio(ours["bfloat16"], ours["float32"])
        facts.append(Fact("ours, bfloat16 over float32", own, "x", least=OWN_BAR if multiplies_bfloat16() else None))
    return facts


def side_by_side(dtype: str, ours: Trained, theirs: Trained | None, bar: float) -> list[Fact]:
    """The rows of one dtype: speeds, their ratio, how far the losses are apart."""
    mine = statistics.median(trained_rate(one) for one in ours)
    if theirs is None:
        return [Fact(f"trained, {dtype}", mine, "tokens/s")]
    gap = curve_gap([row["loss"] for row in ours[0]], [row["loss"] for row in theirs[0]])
    return [
        Fact(f"trained, {dtype}", mine, "tokens/s", peer=statistics.median(trained_rate(one) for one in theirs)),
        Fact(f"ratio, {dtype}", median_ratio(ours, theirs), "x", least=bar),
        Fact(f"loss curves differ by at most, {dtype}", gap, "of it", most=CURVE_BAR),
    ]


def median_ratio(ours: Trained, theirs: Trained) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(trained_rate(a) / trained_rate(b) for a, b in zip(ours, theirs, strict=True))


def train_theirs(model: Path, batches: Path, out: Path, *, bfloat16: bool) -> None:
    """`transformers.Trainer` on the same rows a step, padded to the longest; writes {loss, tokens, seconds} a step."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    steps = json.loads(batches.read_text())
    examples = [example for step in steps for example in step]
    firsts = [sum(len(step) for step in steps[:index]) for index in range(len(steps) + 1)]
    plan = [list(range(first, last)) for first, last in itertools.pairwise(firsts)]

    def collate(chosen: list[Row]) -> dict[str, Any]:
        longest = max(len(example["input_ids"]) for example in chosen)
        fill = {"input_ids": 0, "labels": -100}
        padded = {
            name: torch.tensor([example[name] + [value] * (longest - len(example[name])) for example in chosen])
            for name, value in fill.items()
        }
        return {
            **padded,
            "attention_mask": (torch.arange(longest) < torch.tensor([[len(e["input_ids"])] for e in chosen])).long(),
        }

    class SameRows(Trainer):
        """Takes the rows of each step as they are given, in order."""

        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(examples, batch_sampler=plan, collate_fn=collate)
            return self.accelerator.prepare(loader)

    class Clock(TrainerCallback):
        """When each train step ended."""

        def __init__(self) -> None:
            self.ends = [time.perf_counter()]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    settings = TrainingArguments(
        output_dir=str(out.with_suffix("")), max_steps=len(steps), learning_rate=RATE, lr_scheduler_type="constant",
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], adam_epsilon=EPS, weight_decay=0.0, max_grad_norm=CLIP,
        optim="adamw_torch_fused", logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=[],
        use_cpu=True, bf16=bfloat16, disable_tqdm=True, seed=42,
    )  # fmt: skip
    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    clock = Clock()
    trainer = SameRows(model=peer, args=settings, train_dataset=examples, callbacks=[clock])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    counts = [sum(label != -100 for example in step for label in example["labels"][1:]) for step in steps]
    ends = clock.ends
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    found = [{"loss": a, "tokens": b, "seconds": c} for a, b, c in zip(losses, counts, seconds, strict=True)]
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
