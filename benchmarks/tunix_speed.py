"""Training of a 34.6 M-parameter Gemma on dev-reasoning-v2 beside google-tunix's trainer, in its own environment, on the CPU.

In: the Python of an environment with google-tunix. Out: a table, or with ``--json`` rows
{name, value, unit, bar, peer}; exit code 1 if a bar is missed.

    $ python -m venv .venv-tunix && .venv-tunix/bin/pip install google-tunix
    $ python benchmarks/tunix_speed.py --tunix .venv-tunix/bin/python [--rounds 3] [--steps 8] [--json]

Both read the same model folder (float32) and the same rows in the same order, and take turns, each in a process of its
own. Ours packs them into 8 sequences of 256 tokens; theirs, `PeftTrainer` over all weights with its Gemma, its loss and
optax's AdamW with the same clipping, has no packing: it pads to one length, that of the longest row here, so many rows a
step as ours has on average. Figures are the tokens that count in the loss a second, medians of the steps, the first two
left out. That both compute the same is checked on the first batch of theirs: our loss of those very rows beside theirs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts.gemma import ARGS, BETAS, CLIP, EPS, RATE, SIZES, write_model
from parts.reasoning import Row, dataset_rows, train_ours, trained_rate, write_batches
from parts.table import Fact, report

RATIO_BAR, LOSS_BAR = 2.5, 0.01


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tunix", type=Path, metavar="PYTHON", help="the Python of an environment with google-tunix")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--theirs", nargs=3, metavar=("MODEL", "ROWS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        train_theirs(*map(Path, options.theirs))
        return 0
    if options.tunix is None:
        print("tunix_speed.py: --tunix names the Python of an environment with google-tunix; nothing measured")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return report(measure(Path(folder), options), as_json=options.json)


def measure(folder: Path, options: argparse.Namespace) -> list[Fact]:
    """Trained tokens a second of both, and how far their losses of one batch are apart."""
    model, rows = write_model(folder / "model"), folder / "rows.jsonl"
    rows.write_text(dataset_rows(), encoding="utf-8")
    args, batches, given = {**ARGS, "num_train_steps": options.steps}, folder / "batches.json", folder / "given.json"
    write_batches(model, rows, args, batches)
    steps = json.loads(batches.read_text())
    examples = [example for step in steps for example in step]
    size = len(examples) // len(steps)
    given.write_text(json.dumps([examples[size * step : size * (step + 1)] for step in range(len(steps))]))
    theirs = with_their_names(model, folder / "theirs")
    mine, peers, losses = [], [], []
    for number in range(options.rounds):
        mine.append(trained_rate(train_ours(model, rows, args, folder / f"ours{number}")[1:]))
        out = folder / f"theirs{number}.json"
        command = [str(options.tunix), str(Path(__file__)), "--theirs", str(theirs), str(given), str(out)]
        subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)
        found = json.loads(out.read_text())
        peers.append(trained_rate(found[1:]))
        losses.append(found[0]["loss"])
    ratio = statistics.median(a / b for a, b in zip(mine, peers, strict=True))
    ours = loss_of(model, padded(json.loads(given.read_text())[0]))
    return [
        Fact("trained", statistics.median(mine), "tokens/s", peer=statistics.median(peers)),
        Fact("ratio", ratio, "x", least=RATIO_BAR),
        Fact("loss of their first batch differs by", abs(losses[0] - ours) / ours, "of it", most=LOSS_BAR),
    ]


def with_their_names(model: Path, folder: Path) -> Path:
    """The weights for a loader that knows the names of Gemma 2 only: it calls the norm before the MLP otherwise."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    named = {
        name.replace("post_attention_layernorm", "pre_feedforward_layernorm"): array
        for name, array in load_file(model / "model.safetensors").items()
    }
    save_file(named, folder / "model.safetensors")
    return folder


def padded(batch: list[Row], length: int | None = None) -> dict[str, Any]:
    """tokens, mask of targets, both [rows, length], and how long each row is."""
    import numpy as np

    lengths = np.array([len(example["input_ids"]) for example in batch])
    tokens = np.zeros((len(batch), length or int(lengths.max())), np.int32)
    targets = np.zeros_like(tokens)
    for line, example in enumerate(batch):
        tokens[line, : lengths[line]] = example["input_ids"]
        targets[line, : lengths[line]] = [label != -100 for label in example["labels"]]
    return {"tokens": tokens, "targets": targets, "lengths": lengths}


def loss_of(model: Path, batch: dict[str, Any]) -> float:
    """The mean loss of a batch's targets, by our model without any training."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from engine.trainer.weights import load_folder

    module, _, _ = load_folder(model, param_dtype=np.dtype("float32"), compute_dtype=np.dtype("float32"))
    tokens, index = jnp.asarray(batch["tokens"]), np.arange(batch["tokens"].shape[1], dtype=np.int32)[None]
    real = (index < batch["lengths"][:, None]).astype(np.int32)
    positions = jnp.asarray(np.broadcast_to(index, tokens.shape))
    logits = module(tokens, positions=positions, segment_ids=jnp.asarray(real))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]
    targets = batch["targets"][:, 1:]
    return float(-jnp.sum(chosen * targets) / targets.sum())


def train_theirs(model: Path, given: Path, out: Path) -> None:
    """`PeftTrainer` on these rows, every step's padded to the longest of all; writes {loss, tokens, seconds} a step."""
    import jax
    import jax.numpy as jnp
    import optax
    from parts.tunix_inputs import model_inputs
    from tunix.models.gemma import model as gemma
    from tunix.models.gemma.params_safetensors import create_model_from_safe_tensors
    from tunix.sft.hooks import TrainingHooks
    from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput

    steps = json.loads(given.read_text())
    longest = max(len(example["input_ids"]) for step in steps for example in step)
    batches = [padded(step, longest) for step in steps]
    depth = SIZES["num_hidden_layers"]
    config = gemma.ModelConfig(
        num_layers=depth, num_embed=SIZES["vocab_size"], embed_dim=SIZES["hidden_size"],
        hidden_dim=SIZES["intermediate_size"], num_heads=SIZES["num_attention_heads"], head_dim=SIZES["head_dim"],
        num_kv_heads=SIZES["num_key_value_heads"], final_logit_softcap=None, use_post_attn_norm=False,
        use_post_ffw_norm=False, attention_types=(gemma.AttentionType.GLOBAL,) * depth,
    )  # fmt: skip
    mesh = jax.sharding.Mesh([[jax.devices()[0]]], ("fsdp", "tp"))
    ends, losses = [time.perf_counter()], []

    class Clock(TrainingHooks):
        """When each train step ended, and its loss."""

        def on_train_start(self, _: Any) -> None: ...
        def on_train_end(self, _: Any) -> None: ...
        def on_train_step_start(self, _: Any) -> None: ...
        def on_eval_step_start(self, _: Any) -> None: ...
        def on_eval_step_end(self, _: Any, __: float) -> None: ...

        def on_train_step_end(self, _: Any, __: int, loss: float) -> None:
            losses.append(float(loss))
            ends.append(time.perf_counter())

    adamw = optax.adamw(RATE, b1=BETAS[0], b2=BETAS[1], eps=EPS, weight_decay=0.0)
    with mesh:
        peer = create_model_from_safe_tensors(str(model), config, mesh, dtype=jnp.float32)
        settings = TrainingConfig(eval_every_n_steps=10**6, max_steps=len(steps))
        trainer = PeftTrainer(peer, optax.chain(optax.clip_by_global_norm(CLIP), adamw), settings)
        trainer.training_hooks = Clock()
        trainer.with_gen_model_input_fn(model_inputs).train(
            [TrainingInput(input_tokens=batch["tokens"], input_mask=batch["targets"]) for batch in batches]
        )
    counts = [int(batch["targets"][:, 1:].sum()) for batch in batches]
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    found = [{"loss": a, "tokens": b, "seconds": c} for a, b, c in zip(losses, counts, seconds, strict=True)]
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
