"""Training of a 34.6 M-parameter Gemma beside `transformers` in PyTorch on the CPU: float32, same weights, same numbers.

What goes in: nothing. What comes out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 where
a bar is missed.

    $ .venv-parity/bin/python benchmarks/train_speed.py [--rounds 3] [--steps 10] [--only raw] [--json]

``raw``: one batch of 8 full rows of 256 tokens, loss on every token, forward, backward, clipping and AdamW, step after
step: our compiled train step in the trainer's own loop against eager PyTorch with its fused AdamW. Each in a process of its
own (ours with the environment that the engine gives its trainer), taking turns, so that a busy machine slows both and
neither has the other's threads and memory beside it; the first step of each turn does not count. The ratio is the median of
the rounds' own ratios.

``trained``: the trainer as it is run (``python -m engine.trainer train``, packing into 256 tokens, its input on a thread)
against `transformers.Trainer` with dynamic padding, on dev-reasoning-v2, each in a process of its own, taking turns.
Every train step has **the same rows** on both sides: ours packs them into 8 sequences, theirs pads them to the longest of
the step. Same weights to begin with, same AdamW, rate and clipping, and the loss of a step is the mean over its trained
tokens on both sides: the two loss curves must be one. Figures are the tokens that count in the loss a second, medians of
the steps, the first left out. The model is a folder written here, with a tokenizer of the test fixtures' kind.

``ceiling`` is what either could do at most: the rate of one large matrix product, the best of the run, over the operations that
a real token needs (engine.trainer.flops), nothing padded. A ratio above ceiling / theirs cannot be had on the machine.

torch is no part of the engine; `make parity` makes the environment that has it. Elsewhere ours is measured alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
TOKENIZER = REPOSITORY / "tests" / "fixtures" / "gemma_like"
SIZES = {
    "model_type": "gemma", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512,
}  # fmt: skip
RATE, CLIP, BETAS, EPS = 3e-4, 1.0, (0.9, 0.99), 1e-8
ARGS = {
    "num_train_steps": 10, "per_device_batch_size": 8, "grad_accum_steps": 1, "seq_len": 256, "optimizer": "adamw",
    "learning_rate": RATE, "lr_schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": CLIP,
    "adam_b1": BETAS[0], "adam_b2": BETAS[1], "adam_eps": EPS, "dtype": "float32", "packing": True,
    "on_long_row": "truncate", "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 1000, "keep_checkpoints": 1,
    "log_every_steps": 1, "seed": 42,
}  # fmt: skip
RAW_BATCH, RAW_LENGTH = 8, 256
RAW_BAR, TRAINED_BAR, CURVE_BAR = 1.05, 2.0, 0.01
Row = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=ARGS["num_train_steps"])
    parser.add_argument("--only", choices=["raw", "trained"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    parser.add_argument("--theirs", nargs=3, metavar=("MODEL", "BATCHES", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        take_turns(options.side[0], Path(options.side[1]))
        return
    if options.theirs:
        train_theirs(*map(Path, options.theirs))
        return
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model")
        if options.only != "trained":
            rows += measure_raw(model, options.rounds, has_torch=has_torch)
        if options.only != "raw":
            rows += measure_trained(model, Path(folder), options, has_torch=has_torch)
    show(rows, as_json=options.json)
    sys.exit(any(missed(row) for row in rows))


def show(rows: list[Row], *, as_json: bool) -> None:
    """The rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        peer = f"{row['peer']:>12,.4g}" if row["peer"] is not None else f"{'–':>12}"
        bar = f"  (bar {row['bar']:g})" if row["bar"] is not None else ""
        print(f"{row['name']:<44}{row['value']:>12,.4g}{peer} {row['unit']}{bar}")


def missed(row: Row) -> bool:
    """Whether its bar is: the gap of two curves must lie below, all else above."""
    if row["bar"] is None:
        return False
    return bool(row["value"] > row["bar"] if row["bar"] == CURVE_BAR else row["value"] < row["bar"])


def fact(name: str, value: float, unit: str, peer: float | None = None, bar: float | None = None) -> Row:
    """One row of the table."""
    return {"name": name, "value": value, "unit": unit, "bar": bar, "peer": peer}


def write_model(folder: Path) -> Path:
    """A folder in Hugging Face's layout: fresh weights, the fixtures' tokenizer with unused tokens up to the vocabulary."""
    from engine.trainer.models import config_from_hf, create
    from engine.trainer.tokenizer import Tokenizer
    from engine.trainer.weights import save_folder

    source = folder.with_name("tokenizer")
    source.mkdir()
    for path in TOKENIZER.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    document = json.loads((TOKENIZER / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in document["added_tokens"])}
    free = (number for number in range(SIZES["vocab_size"]) if number not in taken)
    vocabulary |= {f"<filler{number}>": number for number in free}
    (source / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = Tokenizer.load(source)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    config = config_from_hf({**SIZES, **ids})
    save_folder(folder, create(config, seed=0), config, tokenizer, dtype="float32")
    return folder


# --- raw: one full batch ---


def measure_raw(model: Path, rounds: int, *, has_torch: bool) -> list[Row]:
    """Tokens a second of both, in turns."""
    from engine.child import trainer_environment

    environments = {"ours": trainer_environment()} | ({"theirs": {**os.environ}} if has_torch else {})
    found: dict[str, list[float]] = {side: [] for side in environments}
    losses: dict[str, list[float]] = {side: [] for side in environments}
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(Path(__file__)), "--side", side, str(model)],
                    env=environment,
                    cwd=REPOSITORY,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for side, environment in environments.items()
        }
        for number in range(rounds + 1):
            for side, process in sides.items():
                seconds, loss = one_turn(process)
                losses[side] += loss
                if number:  # the first round warms up
                    found[side].append(seconds)
    size = RAW_BATCH * RAW_LENGTH
    mine = size / statistics.median(found["ours"])
    ceiling = fact("raw: ceiling", matmul_rate() / token_flops([RAW_LENGTH]), "tokens/s")
    if not has_torch:
        return [fact("raw: 8 rows of 256 tokens", mine, "tokens/s"), ceiling]
    ratio = statistics.median(b / a for a, b in zip(found["ours"], found["theirs"], strict=True))
    return [
        fact("raw: 8 rows of 256 tokens", mine, "tokens/s", size / statistics.median(found["theirs"])),
        ceiling,
        fact("raw: ratio", ratio, "x", 1.0, RAW_BAR),
        fact(
            "raw: loss curves differ by at most", curve_gap(losses["ours"], losses["theirs"]), "of it", None, CURVE_BAR
        ),
    ]


def one_turn(process: subprocess.Popen[str]) -> tuple[float, list[float]]:
    """(seconds of a train step, the losses of the turn) from a process of :func:`take_turns`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit("one of the two sides has ended")
    found = json.loads(answer)
    return found["seconds"], found["losses"]


def take_turns(side: str, model: Path) -> None:
    """One side's process: train steps each time a line comes in, until there is no more."""
    import numpy as np

    draw = np.random.default_rng(1)
    tokens = draw.integers(5, SIZES["vocab_size"], (RAW_BATCH, RAW_LENGTH)).astype(np.int32)
    steps = (raw_ours if side == "ours" else raw_theirs)(model, tokens)
    for _ in sys.stdin:
        _, first = steps(1)  # a process that has waited gets its memory back in it: seconds, on a virtual machine
        seconds, losses = steps(RAW_STEPS)
        print(json.dumps({"seconds": seconds, "losses": first + losses}), flush=True)


def token_flops(lengths: list[int]) -> float:
    """Operations that one real token of such rows needs, forward and backward."""
    from engine.trainer.flops import flops_per_token, visible_keys
    from engine.trainer.models import config_from_hf

    config = config_from_hf(SIZES)
    return flops_per_token(config, visible_keys(lengths, config))


def matmul_rate() -> float:
    """Floating-point operations a second of a product of two 2048 x 2048 matrices, the best of ten."""
    import jax
    import jax.numpy as jnp

    size, best = 2048, float("inf")
    matrix, product = jnp.ones((size, size)), jax.jit(jnp.matmul)
    for _ in range(10):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def curve_gap(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


RAW_STEPS = 3  # that count in a turn; the figure is that of one


def raw_ours(model: Path, tokens: Any) -> Callable[[int], tuple[float, list[float]]]:
    """The trainer's compiled step in the trainer's loop, on a batch in which every token but the first is a target."""
    import jax
    import numpy as np

    from engine.trainer.args import TrainArgs
    from engine.trainer.fitting import compile_fitting, limit_bytes
    from engine.trainer.loop import train
    from engine.trainer.placement import Placement
    from engine.trainer.train_step import init_state
    from engine.trainer.weights import load_folder

    args = TrainArgs.of({**ARGS, "seq_len": RAW_LENGTH, "per_device_batch_size": RAW_BATCH})
    module, _, _ = load_folder(model, param_dtype=np.dtype("float32"), compute_dtype=np.dtype("float32"))
    graphdef, state = init_state(module, args)
    places = np.tile(np.arange(RAW_LENGTH, dtype=np.int32), (RAW_BATCH, 1))
    batch = {
        "tokens": tokens, "segment_ids": np.ones_like(tokens), "positions": places,
        "target_places": places[:, :-1], "target_ids": tokens[:, 1:], "target_weights": np.ones_like(tokens[:, 1:]),
    }  # fmt: skip
    batch = jax.device_put({name: np.ascontiguousarray(array)[None] for name, array in batch.items()})
    limit = limit_bytes(jax.local_devices()[0])
    step, how = compile_fitting(graphdef, args, state, batch, Placement(), limit=limit)
    print(f"ours: remat {how.remat}, attention {'blocked' if how.blocked else 'plain'}", file=sys.stderr)
    held = {"state": state}

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for done in train(step, held["state"], lambda _: batch, first=1, last=count, pause_after=lambda _: False):
            losses.append(done.metrics["loss"])
            held["state"] = done.state or held["state"]
        return (time.perf_counter() - started) / count, losses

    return steps


def raw_theirs(model: Path, tokens: Any) -> Callable[[int], tuple[float, list[float]]]:
    """Eager PyTorch, transformers' own choice of attention, the same clipping, fused AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)
    given = torch.from_numpy(tokens).long()

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for _ in range(count):
            loss = peer(input_ids=given, labels=given, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return (time.perf_counter() - started) / count, losses

    return steps


# --- trained: dev-reasoning-v2, each trainer as it is run ---


def measure_trained(model: Path, folder: Path, options: argparse.Namespace, *, has_torch: bool) -> list[Row]:
    """Trained tokens a second of both, and how far their losses are apart."""
    rows = folder / "rows.jsonl"
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
    found = [fact("packed: real tokens", share["packed"], "of all places")]
    mine = [trained_rate(one) for one in ours]
    lengths = [len(example["input_ids"]) for step in json.loads(batches.read_text()) for example in step]
    part = sum(row["tokens"] for row in ours[0]) / sum(lengths)
    ceiling = fact("dev-reasoning-v2: ceiling", part * matmul_rate() / token_flops(lengths), "tokens/s")
    if not has_torch:
        return [*found, fact("dev-reasoning-v2: trained", statistics.median(mine), "tokens/s"), ceiling]
    peers = [trained_rate(one) for one in theirs]
    ratio = statistics.median(a / b for a, b in zip(mine, peers, strict=True))
    gap = curve_gap([row["loss"] for row in ours[0]], [row["loss"] for row in theirs[0]])
    return [
        fact("real tokens (packed, padded)", share["packed"], "of all places", share["padded"]),
        fact("dev-reasoning-v2: trained", statistics.median(mine), "tokens/s", statistics.median(peers)),
        ceiling,
        fact("dev-reasoning-v2: ratio", ratio, "x", 1.0, TRAINED_BAR),
        fact("dev-reasoning-v2: loss curves differ by at most", gap, "of it", None, CURVE_BAR),
    ]


def trained_rate(rows: list[Row]) -> float:
    """Tokens that count a second: of all train steps but the first, by the median second of a token."""
    return 1 / statistics.median(row["seconds"] / row["tokens"] for row in rows[1:])


def dataset_rows() -> str:
    """rows.jsonl as the build_dataset step writes it."""
    from engine.canonical import jsonl_bytes
    from engine.data import build, render_rows, trace_rows

    _, rendered = render_rows(trace_rows(build("dev-reasoning-v2", seed=42, num_rows=None)), "trace")
    return jsonl_bytes(row.as_json() for row in rendered).decode()


def write_batches(model: Path, rows: Path, args: Row, out: Path) -> dict[str, float]:
    """The rows of each train step, taken apart again from our batches; the share of real tokens of both ways."""
    from engine.trainer.args import TrainArgs
    from engine.trainer.batches import DataOrder, batch_at
    from engine.trainer.feed import load_data
    from engine.trainer.tokenizer import Tokenizer

    train_args = TrainArgs.of(args)
    data = load_data(rows, Tokenizer.load(model), train_args, cache=out.parent / "cache", render="reasoning@v1")
    order = DataOrder(data.packed.n_sequences, train_args.batch(1).sequences, train_args.seed)
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
    for place, target in zip(
        batch["target_places"][line][weights == 1], batch["target_ids"][line][weights == 1], strict=True
    ):
        labels[int(place) + 1] = int(target)
    found = []
    for segment in range(1, int(batch["segment_ids"][line].max()) + 1):
        places = [int(place) for place in (batch["segment_ids"][line] == segment).nonzero()[0]]
        tokens = [int(batch["tokens"][line][place]) for place in places]
        found.append({"input_ids": tokens, "labels": [labels[place] for place in places]})
    return found


def train_ours(model: Path, rows: Path, args: Row, folder: Path) -> list[Row]:
    """The trainer's process; its rows of metrics."""
    from engine.child import trainer_environment

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
    # Its standard input stays open until it is done: the trainer dies with who started it.
    child = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=trainer_environment()
    )
    with child:
        if child.wait():
            sys.exit(f"our trainer ended with {child.returncode}")
    return [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]


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
    main()
