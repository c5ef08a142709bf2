"""Generation beside transformers' generate: the same weights, prompts and number of tokens, greedy, in one run.

In: nothing, or which cases and how often. Out: a table, or with ``--json`` rows
{name, value, unit, bar, peer}.

    $ python benchmarks/generate.py [--cases 1 25 100 ragged] [--dtype float32] [--weights auto] [--repeats 7] [--json]

The model has 34.1 M weights (vocabulary 8192, width 512, 8 layers, 8 heads over one kv head); prompts have 32 tokens, in
the case "ragged" 8 to 256 (100 rows; transformers pads them on the left, as it must), and every row gets 64 new tokens.
``tokens/s`` is new tokens over the time of the whole call, prompts included. ``decode`` leaves out the time of a call that
generates one token. Each side has its model ready, as it generates: transformers' is loaded, our sampler is made, which
takes a copy of the weights and a fifth of a second. Each side runs once to warm up (and compile, here); then they take
turns, and medians are compared, so that other load on the machine affects both. Exit code 1 if a bar is missed.

torch is not part of the engine; `make parity` makes an environment with it. Elsewhere only ours is measured.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from parts.table import Fact, exit_code, report, show

from engine.trainer import device

MODEL = {
    "model_type": "gemma", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 512,
}  # fmt: skip
NEW_TOKENS = 64
# times transformers' tokens/s
BARS = {
    "float32": {"1": 2.0, "25": 1.6, "100": 1.4, "ragged": 2.0},
    "bfloat16": {"1": None, "25": None, "100": 1.4, "ragged": None},
}
CASES = tuple(BARS["float32"])
Prompts = list[list[int]]
Generate = Callable[[Prompts, int], list[list[int]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--dtype", default="float32", choices=list(BARS), help="of both sides")
    parser.add_argument(
        "--weights", default="auto", choices=["auto", "bfloat16", "int8"], help="of ours; bars are of auto"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device.select("cpu")
    facts: list[Fact] = []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = load(Path(folder) / "model", options.dtype, options.weights)
        for case in options.cases:
            bar = BARS[options.dtype][case] if options.weights == "auto" else None
            found = measure(case, ours, theirs, options.repeats, bar)
            facts += found
            if not options.json:
                show(found)  # as soon as it is known: all cases take minutes
    return report(facts, as_json=True) if options.json else exit_code(facts)


def load(folder: Path, dtype: str, weights: str) -> tuple[Callable[[int], Generate], Generate | None]:
    """The same weights for both: ours(batch_size), and transformers' generate where torch is installed."""
    import jax

    from engine.trainer.generation.sampler import Sampler
    from engine.trainer.models import config_from_hf, create
    from engine.trainer.text.tokenizer import build_chars
    from engine.trainer.weights import save_folder

    config = config_from_hf(MODEL)
    fresh = create(config, seed=0)
    save_folder(folder, fresh, config, build_chars(), dtype=dtype)
    model = type(fresh)(config, jax.tree.map(lambda leaf: leaf.astype(dtype), fresh.weights()), compute_dtype=dtype)

    def ours(batch_size: int) -> Generate:
        make = functools.partial(Sampler, model, batch_size=batch_size, ends={}, pad_id=0, weights=weights)
        samplers = {new: make(max_new_tokens=new) for new in (NEW_TOKENS, 1)}

        def generate(prompts: Prompts, new: int) -> list[list[int]]:
            batches = samplers[new].batches(prompts)
            found = {i: one.ids for where, some in batches for i, one in zip(where, some, strict=True)}
            return [found[index] for index in range(len(prompts))]

        return generate

    if importlib.util.find_spec("torch") is None:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
        return ours, None
    return ours, transformers_generate(folder, dtype)


def transformers_generate(folder: Path, dtype: str) -> Generate:
    """The model of a folder in PyTorch, prompts padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def generate(prompts: Prompts, new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
        out = peer.generate(tokens, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        return [row[longest:].tolist() for row in out]

    return generate


def measure(
    case: str, ours: Callable[[int], Generate], theirs: Generate | None, repeats: int, bar: float | None
) -> list[Fact]:
    """One case, both sides in turns."""
    prompts = make_prompts(case)
    sides = {"ours": ours(len(prompts))} | ({"theirs": theirs} if theirs is not None else {})
    for side in sides.values():  # compiles, warms up
        side(prompts, 1)
    answers = {name: side(prompts, NEW_TOKENS) for name, side in sides.items()}
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for new in (NEW_TOKENS, 1):
            for name, side in sides.items():
                started = time.perf_counter()
                side(prompts, new)
                seconds.setdefault((name, new), []).append(time.perf_counter() - started)
    taken = {key: statistics.median(times) for key, times in seconds.items()}
    speed = {name: len(prompts) * NEW_TOKENS / taken[name, NEW_TOKENS] for name in sides}
    decode = {name: len(prompts) * (NEW_TOKENS - 1) / (taken[name, NEW_TOKENS] - taken[name, 1]) for name in sides}
    label = "ragged" if case == "ragged" else f"{case} rows"
    rows = [
        Fact(f"{label}: tokens/s", speed["ours"], "tokens/s", peer=speed.get("theirs")),
        Fact(f"{label}: decode", decode["ours"], "tokens/s", peer=decode.get("theirs")),
    ]
    if theirs is None:
        return rows
    equal = sum(map(list.__eq__, answers["ours"], answers["theirs"])) / len(prompts)
    return [
        *rows,
        Fact(f"{label}: ratio", speed["ours"] / speed["theirs"], "times", least=bar),
        Fact(f"{label}: decode ratio", decode["ours"] / decode["theirs"], "times"),
        Fact(f"{label}: equal answers", equal, "of all"),
    ]


def make_prompts(case: str) -> Prompts:
    """Random tokens, the same at every call."""
    import numpy as np

    draws = np.random.default_rng(0)
    lengths = draws.integers(8, 257, 100) if case == "ragged" else [32] * int(case)
    return [draws.integers(4, MODEL["vocab_size"], length).tolist() for length in lengths]


if __name__ == "__main__":
    sys.exit(main())
