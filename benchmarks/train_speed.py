"""The trainer on dev-reasoning-v2 beside `transformers.Trainer` with dynamic padding, a 34.6 M-parameter Gemma on the CPU.

In: nothing. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 if
a bar is missed.

    $ .venv-parity/bin/python benchmarks/train_speed.py [--rounds 3] [--steps 10] [--json]

Each trainer as it is run: ours by ``python -m engine.trainer train``, packing into 256 tokens, its input on a thread; both in
float32, each in a process of its own, taking turns. Every train step has **the same rows** on both sides: ours packs them into
8 sequences, theirs pads them to the longest of the step. Same weights to begin with, same AdamW, rate and clipping, and the loss
of a step is the mean over its trained tokens on both sides: the two loss curves must be one. Figures are the tokens that count in
the loss a second, medians of the steps, the first left out. The model is a folder written here, with a tokenizer of the test
fixtures' kind.

``ceiling`` is the upper limit for both: the rate of one large matmul, the best of the run, over the operations that
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

RATIO_BAR, CURVE_BAR = 2.0, 0.01


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=ARGS["num_train_steps"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--theirs", nargs=3, metavar=("MODEL", "BATCHES", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        train_theirs(*map(Path, options.theirs))
        return 0
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        return report(measure(Path(folder), options, has_torch=has_torch), as_json=options.json)


def measure(folder: Path, options: argparse.Namespace, *, has_torch: bool) -> list[Fact]:
    """Trained tokens a second of both, and how far their losses are apart."""
    model, rows = write_model(folder / "model"), folder / "rows.jsonl"
    rows.write_text(dataset_rows(), encoding="utf-8")
    args = {**ARGS, "num_train_steps": options.steps}
    batches = folder / "batches.json"
    share = write_batches(model, rows, args, batches)
    ours: list[list[Row]] = []
    theirs: list[list[Row]] = []
    for number in range(options.rounds):
        ours.append(train_ours(model, rows, args, folder / f"ours{number}"))
        if has_torch:
            out = folder / f"theirs{number}.json"
            command = [sys.executable, str(Path(__file__)), "--theirs", str(model), str(batches), str(out)]
            subprocess.run(command, check=True, cwd=REPOSITORY, stdout=sys.stderr)
            theirs.append(json.loads(out.read_text()))
    mine = [trained_rate(one) for one in ours]
    lengths = [len(example["input_ids"]) for step in json.loads(batches.read_text()) for example in step]
    part = sum(row["tokens"] for row in ours[0]) / sum(lengths)
    ceiling = Fact("ceiling", part * matmul_rate() / token_flops(lengths), "tokens/s")
    if not has_torch:
        return [
            Fact("packed: real tokens", share["packed"], "of all token positions"),
            Fact("trained", statistics.median(mine), "tokens/s"),
            ceiling,
        ]
    peers = [trained_rate(one) for one in theirs]
    ratio = statistics.median(a / b for a, b in zip(mine, peers, strict=True))
    gap = curve_gap([row["loss"] for row in ours[0]], [row["loss"] for row in theirs[0]])
    return [
        Fact("real tokens, packed (peer: padded)", share["packed"], "of all token positions", peer=share["padded"]),
        Fact("trained", statistics.median(mine), "tokens/s", peer=statistics.median(peers)),
        ceiling,
        Fact("ratio", ratio, "x", least=RATIO_BAR),
        Fact("loss curves differ by at most", gap, "of it", most=CURVE_BAR),
    ]


def train_theirs(model: Path, batches: Path, out: Path) -> None:
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
        use_cpu=True, disable_tqdm=True, seed=42,
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
