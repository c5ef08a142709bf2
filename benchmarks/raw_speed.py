"""One train step of a 34.6 M-parameter Gemma beside `transformers` in eager PyTorch on the CPU: same weights, same batch.

In: nothing. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 if
a bar is missed.

    $ .venv-parity/bin/python benchmarks/raw_speed.py [--rounds 7] [--float32] [--small-pages] [--json]

One batch of 8 full rows of 256 tokens, loss on every token, forward, backward, clipping and AdamW, step after step: our
compiled train step in the trainer's own loop against eager PyTorch with its fused AdamW, in float32 and, weights still
float32, with bfloat16 matmuls (``matmul_dtype: bfloat16`` against ``torch.autocast``; left out with ``--float32``). Each in
a process of its own (ours with the environment that the engine gives its trainer), taking turns, so that a busy machine
slows all and none has the others' threads and memory beside it; the first step of each turn does not count. A ratio is the
median of the rounds' own ratios. All begin with the same weights, so that the losses of all steps must be one curve.

``ceiling`` takes turns too: the rate of a large float32 matmul, the best of its turn, over the operations that a token
needs (engine.trainer.tracking.flops), with nothing else to do. ``--small-pages`` takes turns with one more process, ours
without the huge pages that the engine asks glibc for, and counts the page faults of both.

torch is not part of the engine; `make parity` makes an environment with it. Elsewhere only ours is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from parts.gemma import (
    ARGS,
    BETAS,
    CLIP,
    EPS,
    RATE,
    REPOSITORY,
    SIZES,
    curve_gap,
    matmul_rate,
    token_flops,
    write_model,
)
from parts.table import Fact, report

from engine.protocol.processor import multiplies_bfloat16

BATCH, LENGTH = 8, 256
STEPS = 3  # that count in a turn; the figure is that of one
RATIO_BAR, BFLOAT16_BAR, OWN_BAR, SHARE_BAR, CURVE_BAR = 1.05, 1.1, 2.2, 0.8, 0.01
Steps = Callable[[int], tuple[float, list[float]]]  # how many -> (seconds of one, the losses of all)
Turns = Mapping[str, list[dict[str, Any]]]  # what each side measured, round by round


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--float32", action="store_true", help="leave out the sides in bfloat16")
    parser.add_argument("--small-pages", action="store_true", help="beside ours, ours without huge pages")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        take_turns(options.side[0], Path(options.side[1]))
        return 0
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model")
        turns = measure(model, options, has_torch=has_torch)
        return report(facts_of(turns), as_json=options.json)


def measure(model: Path, options: argparse.Namespace, *, has_torch: bool) -> Turns:
    """All sides in turns; the first round, which warms up, is left out."""
    from engine.trainer_process.process import HUGE_PAGES, trainer_environment

    trainer = {**trainer_environment(), "PYTHONSAFEPATH": ""}  # the child is this script, and imports parts/ beside it
    environments = {"ceiling": trainer}
    for dtype in ("float32",) if options.float32 else ("float32", "bfloat16"):
        environments[f"ours {dtype}"] = trainer
        environments |= {f"theirs {dtype}": {**os.environ}} if has_torch else {}
    if options.small_pages:
        environments["ours small pages"] = {**trainer, "GLIBC_TUNABLES": f"{HUGE_PAGES}=0"}
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in environments}
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
        for _ in range(options.rounds + 1):
            for side, process in sides.items():
                turns[side].append(one_turn(process))
    return {side: rounds[1:] for side, rounds in turns.items()}


def facts_of(turns: Turns) -> list[Fact]:
    """The table."""

    def speed(side: str) -> float | None:
        seconds = [turn["seconds"] for turn in turns.get(side, ())]
        return BATCH * LENGTH / statistics.median(seconds) if seconds else None

    def ratio(side: str, other: str) -> float:
        pairs = zip(turns[side], turns[other], strict=True)
        return statistics.median(other["seconds"] / own["seconds"] for own, other in pairs)

    def losses(side: str) -> list[float]:
        return [loss for turn in turns[side] for loss in turn["losses"]]

    facts = []
    for dtype, bar in (("float32", RATIO_BAR), ("bfloat16", BFLOAT16_BAR)):
        ours, theirs = f"ours {dtype}", f"theirs {dtype}"
        if ours in turns:
            facts.append(Fact(f"8 rows of 256 tokens, {dtype}", speed(ours) or 0.0, "tokens/s", peer=speed(theirs)))
        if theirs in turns:
            gap = curve_gap(losses(ours), losses(theirs))
            facts += [
                Fact(f"ratio, {dtype}", ratio(ours, theirs), "x", least=bar),
                Fact(f"loss curves differ by at most, {dtype}", gap, "of it", most=CURVE_BAR),
            ]
    if "ours bfloat16" in turns:
        own = ratio("ours bfloat16", "ours float32")
        facts.append(Fact("ours, bfloat16 over float32", own, "x", least=OWN_BAR if multiplies_bfloat16() else None))
    facts += [
        Fact("ceiling, float32", speed("ceiling") or 0.0, "tokens/s"),
        Fact("share of the ceiling, float32", ratio("ours float32", "ceiling"), "x", least=SHARE_BAR),
    ]
    if small := turns.get("ours small pages"):
        faults = [statistics.median(turn["faults"] for turn in side) for side in (turns["ours float32"], small)]
        facts += [
            Fact("with small pages", speed("ours small pages") or 0.0, "tokens/s"),
            Fact("page faults a train step", faults[0], ""),
            Fact("with small pages, page faults", faults[1], ""),
        ]
    return facts


def one_turn(process: subprocess.Popen[str]) -> dict[str, Any]:
    """{seconds and page faults of a train step, losses of the turn} from a process of :func:`take_turns`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit("one of the two sides has ended")
    turn: dict[str, Any] = json.loads(answer)
    return turn


def take_turns(side: str, model: Path) -> None:
    """One side's process: train steps each time a line comes in, until there is no more."""
    import numpy as np

    draw = np.random.default_rng(1)
    tokens = draw.integers(5, SIZES["vocab_size"], (BATCH, LENGTH)).astype(np.int32)
    whose, _, dtype = side.partition(" ")
    matmul_dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    steps = ceiling() if side == "ceiling" else SIDES[whose](model, tokens, matmul_dtype)
    for _ in sys.stdin:
        _, first = steps(1)  # a process that has waited gets its memory back in it: seconds, on a virtual machine
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds, losses = steps(STEPS)
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) // STEPS
        print(json.dumps({"seconds": seconds, "faults": faults, "losses": first + losses}), flush=True)


def ceiling() -> Steps:
    """The seconds that a step would take at the rate of one large matmul."""
    return lambda _: (BATCH * LENGTH * token_flops([LENGTH]) / matmul_rate(), [])


def raw_ours(model: Path, tokens: Any, matmul_dtype: str) -> Steps:
    """The trainer's compiled step in the trainer's loop, on a batch in which every token but the first is a target."""
    import jax
    import numpy as np

    from engine.protocol.jobs import train_args as train_args_of
    from engine.trainer.distributed.placement import Placement
    from engine.trainer.host_memory import keep_freed_memory
    from engine.trainer.loop import train
    from engine.trainer.remat_policy import compile_within_limit, limit_bytes
    from engine.trainer.train_step import init_state, with_method
    from engine.trainer.weights import load_folder

    args = train_args_of({**ARGS, "seq_len": LENGTH, "per_device_batch_size": BATCH, "matmul_dtype": matmul_dtype})
    module, _, _ = load_folder(model, param_dtype=np.dtype("float32"), compute_dtype=np.dtype("float32"))
    graphdef, state = init_state(with_method(module, args, jax.local_devices()[0]), args)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))
    batch = {
        "tokens": tokens, "segment_ids": np.ones_like(tokens), "positions": positions,
        "target_positions": positions[:, :-1], "target_ids": tokens[:, 1:], "target_weights": np.ones_like(tokens[:, 1:]),
    }  # fmt: skip
    batch = jax.device_put({name: np.ascontiguousarray(array)[None] for name, array in batch.items()})
    limit = limit_bytes(jax.local_devices()[0])
    step, policy = compile_within_limit(graphdef, args, state, batch, Placement(), limit=limit)
    keep_freed_memory(step, limit=limit)
    print(f"ours: remat {policy.remat}, attention {'blocked' if policy.blocked else 'plain'}", file=sys.stderr)
    current = {"state": state}

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for done in train(step, current["state"], lambda _: batch, first=1, last=count, pause_after=lambda _: False):
            losses.append(done.metrics["loss"])
            current["state"] = done.state or current["state"]
        return (time.perf_counter() - started) / count, losses

    return steps


def raw_theirs(model: Path, tokens: Any, matmul_dtype: str) -> Steps:
    """Eager PyTorch, transformers' own choice of attention, the same clipping, fused AdamW; bfloat16 by autocast."""
    import torch
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)
    inputs = torch.from_numpy(tokens).long()

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for _ in range(count):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=matmul_dtype == "bfloat16"):
                loss = peer(input_ids=inputs, labels=inputs, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return (time.perf_counter() - started) / count, losses

    return steps


SIDES = {"ours": raw_ours, "theirs": raw_theirs}

if __name__ == "__main__":
    sys.exit(main())
