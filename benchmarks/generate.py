"""Generation beside transformers' generate: the same weights, prompts and number of tokens, greedy, f32, in one run.

In: nothing, or which cases and how often. Out: a table, or with ``--json`` rows
{name, value, unit, bar, peer}.

    $ python benchmarks/generate.py [--cases 1 25 100 ragged] [--repeats 5] [--json]

The model has 34.1 M weights (vocabulary 8192, width 512, 8 layers, 8 heads over one kv head); prompts have 32 tokens, in
the case "ragged" 8 to 256 (100 rows; transformers pads them on the left, as it must), and every row gets 64 new tokens.
``tokens/s`` is new tokens over the time of the whole call, prompts included. ``decode`` leaves out the time of a call that
generates one token. Each side runs once to warm up (and compile, here); then they take turns, and medians are compared,
so that other load on the machine affects both. Exit code 1 if a bar is missed.

torch is not part of the engine; `make parity` makes an environment with it. Elsewhere only ours is measured.
"""

from __future__ import annotations

import argparse
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
BARS = {"1": 1.3, "25": None, "100": 2.0, "ragged": 3.0}  # times transformers' tokens/s
Prompts = list[list[int]]
Generate = Callable[[Prompts, int], list[list[int]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device.select("cpu")
    facts: list[Fact] = []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = load(Path(folder) / "model")
        for case in options.cases:
            found = measure(case, ours, theirs, options.repeats)
            facts += found
            if not options.json:
                show(found)  # as soon as it is known: all cases take minutes
    return report(facts, as_json=True) if options.json else exit_code(facts)


def load(folder: Path) -> tuple[Callable[[int], Generate], Generate | None]:
    """The same weights for both: ours(batch_size), and transformers' generate where torch is installed."""
    from engine.trainer.generation.sampler import Sampler
    from engine.trainer.models import config_from_hf, create
    from engine.trainer.text.tokenizer import build_chars
    from engine.trainer.weights import save_folder

    config = config_from_hf(MODEL)
    model = create(config, seed=0)
    save_folder(folder, model, config, build_chars(), dtype="float32")

    def ours(batch_size: int) -> Generate:
        def generate(prompts: Prompts, new: int) -> list[list[int]]:
            sampler = Sampler(model, max_new_tokens=new, batch_size=batch_size, ends={}, pad_id=0)
            found = {i: one.ids for where, some in sampler.batches(prompts) for i, one in zip(where, some, strict=True)}
            return [found[index] for index in range(len(prompts))]

        return generate

    if importlib.util.find_spec("torch") is None:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
        return ours, None
    return ours, transformers_generate(folder)


def transformers_generate(folder: Path) -> Generate:
    """The model of a folder in PyTorch, prompts padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def generate(prompts: Prompts, new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
        out = peer.generate(tokens, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        return [row[longest:].tolist() for row in out]

    return generate


def measure(case: str, ours: Callable[[int], Generate], theirs: Generate | None, repeats: int) -> list[Fact]:
    """One case, both sides in turns."""
    prompts = make_prompts(case)
    sides = {"ours": ours(len(prompts))} | ({"theirs": theirs} if theirs is not None else {})
    answers = {name: side(prompts, NEW_TOKENS) for name, side in sides.items()}  # compiles, warms up
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
        Fact(f"{label}: ratio", speed["ours"] / speed["theirs"], "times", least=BARS[case]),
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
