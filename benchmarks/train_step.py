"""The train step and the checkpoint at the size of the quickstart (985 k weights, 16 sequences of 128 tokens).

In: nothing, or a device. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}.

    $ python benchmarks/train_step.py [--device cpu] [--steps 30] [--json]

``matmul`` is the rate of one large matmul, the upper limit; ``share`` is the train step's share of it (6 floating-point
operations a weight and token, attention left out). Medians, so that other load affects some steps and not the figure.
Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from parts.gemma import matmul_rate
from parts.table import Fact, report

from engine.trainer import device

QUICKSTART = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip
ARGS = {
    "num_train_steps": 400, "per_device_batch_size": 16, "grad_accum_steps": 1, "seq_len": 128, "optimizer": "adamw",
    "learning_rate": 4e-3, "lr_schedule": "cosine", "warmup_steps": 20, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "adam_b1": 0.9, "adam_b2": 0.99, "adam_eps": 1e-8, "dtype": "float32", "packing": True, "on_long_row": "fail",
    "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 100, "keep_checkpoints": 2, "log_every_steps": 10,
    "seed": 42,
}  # fmt: skip


SAVE_BAR = 0.2  # seconds for weights and two statistics of a million weights, synced to disk


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "gpu", "tpu"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device.select(options.device)
    device.describe(options.device)
    return report(measure(options.steps), as_json=options.json)


def measure(steps: int) -> list[Fact]:
    """Compile, run, save, restore."""
    import jax
    import numpy as np

    from engine.protocol.jobs import train_args as train_args_of
    from engine.trainer.checkpoint.checkpoints import Checkpoints
    from engine.trainer.input_pipeline.batches import DataOrder, batch_at
    from engine.trainer.input_pipeline.packing import pack_rows
    from engine.trainer.input_pipeline.rows import TokenRow
    from engine.trainer.models import config_from_hf, create, param_count
    from engine.trainer.train_step import compile_train_step, init_state

    args, config = train_args_of(ARGS), config_from_hf(QUICKSTART)
    draw = np.random.default_rng(0)
    rows = []
    for index in range(900):
        length = int(draw.integers(30, 48))
        tokens = (2, *draw.integers(4, 260, length - 1).tolist())
        rows.append(TokenRow(str(index), tokens, (0,) * (length // 2) + (1,) * (length - length // 2)))
    packed = pack_rows(rows, args.seq_len, packing=True, seed=args.seed)
    order = DataOrder(packed.n_sequences, args.per_device_batch_size, args.seed)
    graphdef, state = init_state(create(config, seed=0), args)

    def batch(train_step: int) -> dict[str, np.ndarray]:
        return batch_at(packed, order, train_step, 1)

    started = time.perf_counter()
    step = compile_train_step(graphdef, args, state, batch(1))
    compile_seconds = time.perf_counter() - started
    memory = step.memory_analysis()
    seconds = []
    state, metrics = step(state, batch(1))
    jax.block_until_ready(metrics)
    for train_step in range(2, steps + 2):
        started = time.perf_counter()
        state, metrics = step(state, batch(train_step))
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - started)
    # The median: other load affects some steps, not most.
    median = sorted(seconds)[len(seconds) // 2]
    real = packed.real_tokens.mean() * args.per_device_batch_size
    positions = args.seq_len * args.per_device_batch_size
    peak, rate = matmul_rate(1536), 6 * param_count(config) * positions / median
    return [
        Fact("compile", compile_seconds, "s"),
        Fact("state updated in place", memory.alias_size_in_bytes / 1e6, "MB"),
        Fact("temporary", memory.temp_size_in_bytes / 1e6, "MB"),
        Fact("train step", median, "s"),
        Fact("tokens", real / median, "tokens/s"),
        Fact("matmul", peak / 1e9, "GFLOP/s"),
        Fact("share", rate / peak, "of matmul"),
        *_save_and_restore(Checkpoints, state),
    ]


def _save_and_restore(checkpoints_class: type, state: object) -> list[Fact]:
    from engine.trainer.checkpoint.manifest import IdentityCheck
    from engine.trainer.checkpoint.retention import Retention
    from engine.trainer.distributed.topology import Topology

    with tempfile.TemporaryDirectory() as folder:
        here = Topology(processes=1, devices=1, device_kind="", mesh={})
        checkpoints = checkpoints_class(Path(folder), keep=Retention(2), identity_check=IdentityCheck({}, here, 1))
        for train_step in range(1, 6):
            checkpoints.save(state, train_step)
        saved = list(checkpoints.published())
        started = time.perf_counter()
        checkpoints.restore(state, lambda *_: None)
        restored = time.perf_counter() - started
    return [
        Fact("save", min(save.seconds for save in saved), "s", most=SAVE_BAR),
        Fact("of it training waits", min(save.stalled_seconds for save in saved), "s"),
        Fact("restore", restored, "s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
