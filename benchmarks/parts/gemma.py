"""The 34.6 M-parameter Gemma that the training benchmarks share, and the upper limit of its speed on a machine.

In: a folder to write to. Out: that folder, in Hugging Face's layout: config, safetensors, tokenizer.

    model = write_model(Path(folder) / "model")
    matmul_rate() / token_flops([256])     # upper limit of tokens/s here, for rows of 256 tokens
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TOKENIZER = REPOSITORY / "tests" / "fixtures" / "gemma_like"
SIZES = {
    "model_type": "gemma", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512,
}  # fmt: skip
RATE, CLIP, BETAS, EPS = 3e-4, 1.0, (0.9, 0.99), 1e-8
# Arguments of train_sft. The peers use the same AdamW, rate and clipping.
ARGS: dict[str, Any] = {
    "num_train_steps": 10, "per_device_batch_size": 8, "grad_accum_steps": 1, "seq_len": 256, "optimizer": "adamw",
    "learning_rate": RATE, "lr_schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": CLIP,
    "adam_b1": BETAS[0], "adam_b2": BETAS[1], "adam_eps": EPS, "dtype": "float32", "packing": True,
    "on_long_row": "truncate", "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 1000, "keep_checkpoints": 1,
    "log_every_steps": 1, "seed": 42,
}  # fmt: skip


def write_model(folder: Path) -> Path:
    """A folder in Hugging Face's layout: fresh weights, the fixtures' tokenizer with unused tokens up to the vocabulary."""
    from engine.trainer.models import config_from_hf, create
    from engine.trainer.text.tokenizer import Tokenizer
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


def token_flops(lengths: list[int]) -> float:
    """Operations that one real token of such rows needs, forward and backward."""
    from engine.trainer.models import config_from_hf
    from engine.trainer.tracking.flops import flops_per_token, visible_keys

    config = config_from_hf(SIZES)
    return flops_per_token(config, visible_keys(lengths, config))


def matmul_rate(size: int = 2048, times: int = 10) -> float:
    """Floating-point operations a second of a [size, size] matmul in float32, the best of ``times``."""
    import jax
    import jax.numpy as jnp

    best = float("inf")
    matrix, matmul = jnp.ones((size, size)), jax.jit(jnp.matmul)
    matmul(matrix, matrix).block_until_ready()
    for _ in range(times):
        started = time.perf_counter()
        matmul(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def curve_gap(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two curves of losses."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
