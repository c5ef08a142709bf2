"""One train step of a 34.6 M-parameter Gemma beside `transformers` in eager PyTorch on the CPU: float32, same weights, same batch.

In: nothing. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 if
a bar is missed.

    $ .venv-parity/bin/python benchmarks/raw_speed.py [--rounds 3] [--small-pages] [--json]

One batch of 8 full rows of 256 tokens, loss on every token, forward, backward, clipping and AdamW, step after step: our
compiled train step in the trainer's own loop against eager PyTorch with its fused AdamW. Each in a process of its own
(ours with the environment that the engine gives its trainer), taking turns, so that a busy machine slows both and neither has
the other's threads and memory beside it; the first step of each turn does not count. The ratio is the median of the rounds'
own ratios. Both begin with the same weights, so that the losses of all steps must be one curve.

``ceiling`` is the rate of one large matmul, the best of the run, over the operations that a token needs
(engine.trainer.tracking.flops), with nothing else to do. ``--small-pages`` takes turns with a third process, ours without the huge
pages that the engine asks glibc for, and counts the page faults of both.

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
from collections.abc import Callable
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

BATCH, LENGTH = 8, 256
STEPS = 3  # that count in a turn; the figure is that of one
RATIO_BAR, CURVE_BAR = 1.05, 0.01
Steps = Callable[[int], tuple[float, list[float]]]  # how many -> (seconds of one, the losses of all)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
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
        facts = measure(model, options.rounds, has_torch=has_torch, small_pages=options.small_pages)
        return report(facts, as_json=options.json)


def measure(model: Path, rounds: int, *, has_torch: bool, small_pages: bool) -> list[Fact]:
    """Tokens a second of all, in turns."""
    from engine.trainer_process.process import HUGE_PAGES, trainer_environment

    environments = {"ours": trainer_environment()} | ({"theirs": {**os.environ}} if has_torch else {})
    if small_pages:
        environments["small pages"] = {**trainer_environment(), "GLIBC_TUNABLES": f"{HUGE_PAGES}=0"}
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
        for _ in range(rounds + 1):
            for side, process in sides.items():
                turns[side].append(one_turn(process))

    def median(side: str, key: str) -> float:
        return statistics.median(turn[key] for turn in turns[side][1:])  # the first round warms up

    def speed(side: str) -> float:
        return BATCH * LENGTH / median(side, "seconds")

    facts = [
        Fact("8 rows of 256 tokens", speed("ours"), "tokens/s", peer=speed("theirs") if has_torch else None),
        Fact("ceiling", matmul_rate() / token_flops([LENGTH]), "tokens/s"),
    ]
    if small_pages:
        facts += [
            Fact("with small pages", speed("small pages"), "tokens/s"),
            Fact("page faults a train step", median("ours", "faults"), ""),
            Fact("with small pages, page faults", median("small pages", "faults"), ""),
        ]
    if has_torch:
        pairs = zip(turns["ours"][1:], turns["theirs"][1:], strict=True)
        ratio = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
        curves = [[loss for turn in turns[side] for loss in turn["losses"]] for side in ("ours", "theirs")]
        facts += [
            Fact("ratio", ratio, "x", least=RATIO_BAR),
            Fact("loss curves differ by at most", curve_gap(*curves), "of it", most=CURVE_BAR),
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
    steps = (raw_theirs if side == "theirs" else raw_ours)(model, tokens)
    for _ in sys.stdin:
        _, first = steps(1)  # a process that has waited gets its memory back in it: seconds, on a virtual machine
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds, losses = steps(STEPS)
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) // STEPS
        print(json.dumps({"seconds": seconds, "faults": faults, "losses": first + losses}), flush=True)


def raw_ours(model: Path, tokens: Any) -> Steps:
    """The trainer's compiled step in the trainer's loop, on a batch in which every token but the first is a target."""
    import jax
    import numpy as np

    from engine.protocol.jobs import train_args as train_args_of
    from engine.trainer.distributed.placement import Placement
    from engine.trainer.loop import train
    from engine.trainer.remat_policy import compile_within_limit, limit_bytes
    from engine.trainer.train_step import init_state, with_method
    from engine.trainer.weights import load_folder

    args = train_args_of({**ARGS, "seq_len": LENGTH, "per_device_batch_size": BATCH})
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
    print(f"ours: remat {policy.remat}, attention {'blocked' if policy.blocked else 'plain'}", file=sys.stderr)
    current = {"state": state}

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for done in train(step, current["state"], lambda _: batch, first=1, last=count, pause_after=lambda _: False):
            losses.append(done.metrics["loss"])
            current["state"] = done.state or current["state"]
        return (time.perf_counter() - started) / count, losses

    return steps


def raw_theirs(model: Path, tokens: Any) -> Steps:
    """Eager PyTorch, transformers' own choice of attention, the same clipping, fused AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)
    inputs = torch.from_numpy(tokens).long()

    def steps(count: int) -> tuple[float, list[float]]:
        started, losses = time.perf_counter(), []
        for _ in range(count):
            loss = peer(input_ids=inputs, labels=inputs, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return (time.perf_counter() - started) / count, losses

    return steps


if __name__ == "__main__":
    sys.exit(main())
