"""The network alone, beside `transformers` in PyTorch: forward, and forward with backward. Same weights, same machine.

In: sizes on the command line; the 34.6 M-parameter model unless told. Out: a table, or with
``--json`` rows {name, value, unit, bar, peer}; ``value`` is ours and ``peer`` theirs, tokens/s, medians of rounds in which
the two take turns, so that a busy machine slows both. ``ratio`` is the median of the rounds' own ratios.

    $ .venv-parity/bin/python benchmarks/forward.py [--family gemma2] [--rounds 7] [--json]

torch is no part of the engine; `make parity` makes the environment that has it. Elsewhere ours is measured alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parts.table import Fact, report

from engine.trainer.models import config_from_hf, create, family_of, param_count
from engine.trainer.models.decoder import Decoder
from engine.trainer.weights.table import slots

SIZES = {"batch": 8, "length": 256, "width": 512, "ffn": 2048, "layers": 8, "heads": 8, "kv_heads": 2, "head_dim": 64,
         "vocab": 8192, "window": 128}  # fmt: skip
CLOSE = 1e-4  # logits that differ by more are another network, and no comparison
Case = Callable[[], float]  # does its work once; seconds


def build(options: argparse.Namespace) -> Decoder:
    """A model of the asked family and size with fresh weights."""
    mapping = {
        "model_type": options.family, "vocab_size": options.vocab, "hidden_size": options.width,
        "intermediate_size": options.ffn, "num_hidden_layers": options.layers, "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads, "head_dim": options.head_dim,
    }  # fmt: skip
    if options.family != "gemma":
        mapping |= {"sliding_window": options.window, "query_pre_attn_scalar": options.head_dim}
    return create(config_from_hf(mapping), seed=0)


def ours(model: Decoder, tokens: np.ndarray) -> tuple[dict[str, Case], np.ndarray]:
    """Our two cases, compiled, and the logits."""
    graph, state = nnx.split(model)
    given = jnp.asarray(tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)

    def forward(state: Any) -> jax.Array:
        return nnx.merge(graph, state)(given, positions=positions)

    def loss(state: Any) -> jax.Array:
        logits = forward(state)[:, :-1]
        label = jnp.take_along_axis(logits, given[:, 1:, None], axis=2)[:, :, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - label)

    compiled = {"forward": jax.jit(forward), "forward + backward": jax.jit(jax.value_and_grad(loss))}

    def case(function: Any) -> Case:
        return lambda: _seconds(lambda: jax.block_until_ready(function(state)))

    return {name: case(function) for name, function in compiled.items()}, np.asarray(compiled["forward"](state))


def theirs(model: Decoder, tokens: np.ndarray) -> tuple[dict[str, Case], np.ndarray]:
    """The same network in transformers with the same weights, eager PyTorch, its own choice of attention."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    mapping = model.config.to_hf()
    peer = AutoModelForCausalLM.from_config(AutoConfig.for_model(mapping.pop("model_type"), **mapping)).float()
    weights, leaves = {}, {name: np.asarray(array) for name, array in model.weights().items()}
    for slot in slots(family_of(model.config), model.config):
        part = leaves[slot.leaf] if slot.layer is None else leaves[slot.leaf][slot.layer]
        weights[slot.stored_name] = torch.from_numpy((part.T if slot.is_matrix else part).copy())
    missing, unknown = peer.load_state_dict(weights, strict=False)
    assert not unknown, unknown
    assert set(missing) <= {"lm_head.weight"}, missing  # tied
    given = torch.from_numpy(tokens).long()

    def forward() -> Any:
        with torch.inference_mode():
            return peer(given, use_cache=False).logits

    def both() -> None:
        peer.zero_grad(set_to_none=True)
        logits = peer(given, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), given[:, 1:].reshape(-1)).backward()

    cases: dict[str, Case] = {"forward": lambda: _seconds(forward), "forward + backward": lambda: _seconds(both)}
    return cases, forward().numpy()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(options: argparse.Namespace) -> list[Fact]:
    """Rounds in which ours and theirs take turns."""
    model = build(options)
    tokens = np.random.default_rng(1).integers(4, options.vocab, (options.batch, options.length)).astype(np.int32)
    own, logits = ours(model, tokens)
    sides = {"ours": own}
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed here: ours alone (make parity makes an environment that has it)", file=sys.stderr)
    else:
        sides["theirs"], expected = theirs(model, tokens)
        difference = float(np.abs(logits - expected).max())
        print(f"largest difference of the logits: {difference:.1e}", file=sys.stderr)
        if difference > CLOSE:
            sys.exit(f"the two networks differ by more than {CLOSE}: nothing to compare")
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds + 1):
        for name in own:
            for side, cases in sides.items():
                seconds = cases[name]()
                if number:  # the first round compiles and warms up
                    found.setdefault((name, side), []).append(seconds)
    size = options.batch * options.length
    facts = [Fact("parameters", param_count(model.config), "")]
    for name in own:
        fast, slow = found[name, "ours"], found.get((name, "theirs"))
        peer = size / statistics.median(slow) if slow else None
        facts.append(Fact(name, size / statistics.median(fast), "tokens/s", peer=peer))
        if slow:
            ratio = statistics.median(b / a for a, b in zip(fast, slow, strict=True))
            facts.append(Fact(f"{name}, ratio", ratio, "x"))
    return facts


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--family", default="gemma", choices=["gemma", "gemma2", "gemma3_text"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    options = parser.parse_args()
    facts = measure(options)
    if not options.json:
        print(f"{options.family}, {options.batch} rows of {options.length} tokens, f32, {jax.devices()[0].device_kind}")
    return report(facts, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
