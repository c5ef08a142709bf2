"""dev-reasoning-v2 as training reads it: its rows, the rows of each train step, our trainer's process on them.

In: a model's folder and arguments of train_sft. Out: rows.jsonl, the examples of every train step for a
trainer that packs nothing, and rows of metrics.

    share = write_batches(model, rows, args, batches)
    rate = trained_rate(train_ours(model, rows, args, folder / "ours"))
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from parts.gemma import REPOSITORY

Row = dict[str, Any]


def dataset_rows() -> str:
    """rows.jsonl as the build_dataset step writes it."""
    from engine.canonical import jsonl_bytes
    from engine.data import build, render_rows, trace_rows

    _, rendered = render_rows(trace_rows(build("dev-reasoning-v2", seed=42, num_rows=None)), "trace")
    return jsonl_bytes(row.as_json() for row in rendered).decode()


def write_batches(model: Path, rows: Path, args: Row, out: Path) -> dict[str, float]:
    """Unpacks our batches into the rows of each train step; returns the share of real tokens, packed and padded."""
    from engine.protocol.jobs import train_args as train_args_of
    from engine.trainer.config.batch_shape import batch_of
    from engine.trainer.input_pipeline.batches import DataOrder, batch_at
    from engine.trainer.input_pipeline.dataset import load_data
    from engine.trainer.text.tokenizer import Tokenizer

    train_args = train_args_of(args)
    data = load_data(rows, Tokenizer.load(model), train_args, cache=out.parent / "cache", render="reasoning@v1")
    order = DataOrder(data.packed.n_sequences, batch_of(train_args, 1).sequences, train_args.seed)
    steps, real, packed, padded = [], 0, 0, 0
    for train_step in range(1, train_args.num_train_steps + 1):
        batch = {name: array[0] for name, array in batch_at(data.packed, order, train_step, 1).items()}
        examples = [example for line in range(len(batch["tokens"])) for example in unpack(batch, line)]
        lengths = [len(example["input_ids"]) for example in examples]
        real, packed = real + sum(lengths), packed + batch["tokens"].size
        padded += max(lengths) * len(lengths)
        steps.append(examples)
    out.write_text(json.dumps(steps))
    return {"packed": real / packed, "padded": real / padded}


def unpack(batch: dict[str, Any], line: int) -> list[Row]:
    """The rows of one packed sequence as transformers takes them: labels are -100 but for the targets."""
    labels = [-100] * batch["tokens"].shape[1]
    weights = batch["target_weights"][line]
    for position, target in zip(
        batch["target_positions"][line][weights == 1], batch["target_ids"][line][weights == 1], strict=True
    ):
        labels[int(position) + 1] = int(target)
    rows = []
    for segment in range(1, int(batch["segment_ids"][line].max()) + 1):
        columns = [int(column) for column in (batch["segment_ids"][line] == segment).nonzero()[0]]
        tokens = [int(batch["tokens"][line][column]) for column in columns]
        rows.append({"input_ids": tokens, "labels": [labels[column] for column in columns]})
    return rows


def train_ours(model: Path, rows: Path, args: Row, folder: Path) -> list[Row]:
    """The trainer's process; its rows of metrics."""
    from engine.trainer_process.process import trainer_environment

    folder.mkdir()
    job = {
        "model": {"init": "pretrained", "id": "bench", "revision": None, "path": str(model), "config": None,
                  "tokenizer": None},
        "rows": str(rows), "render": "reasoning@v1", "work": str(folder / "work"), "out": str(folder / "out"),
        "cache": str(folder.parent / "cache"), "device": "cpu", "args": args,
    }  # fmt: skip
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    command = [sys.executable, "-m", "engine.trainer", "train", str(path)]
    # Its standard input stays open until it is done: the trainer ends when it closes.
    child = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=trainer_environment()
    )
    with child:
        if child.wait():
            sys.exit(f"our trainer ended with {child.returncode}")
    return [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]


def trained_rate(rows: list[Row]) -> float:
    """Trained tokens a second: the median of all train steps but the first."""
    return 1 / statistics.median(row["seconds"] / row["tokens"] for row in rows[1:])
