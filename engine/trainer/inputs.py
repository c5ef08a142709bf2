"""What a training starts from: the job's model and rows, loaded, packed, and named by digests.

In: parts of the job. Out: :class:`Model`, :class:`Data`, and the identity that binds a checkpoint to them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from engine.canonical import digest_file
from engine.errors import InputInvalid
from engine.trainer import device, hub
from engine.trainer.args import TrainArgs
from engine.trainer.models import config_from_hf, create
from engine.trainer.packing import Packed, pack_rows, permutation
from engine.trainer.process import Emit, Stopping
from engine.trainer.rows import Fitted, TokenRow, fit_rows, read_token_rows
from engine.trainer.tokenizer import Tokenizer, build_chars
from engine.trainer.weights import load_folder

WITHHOLDING_STREAM = (1 << 63) + 1  # apart from the draws of packing and of any epoch
STATE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Model:
    """What the job's ``model`` stands for. ``commit`` is the hub's, None elsewhere; ``origin`` names the weights."""

    module: Any
    config: Any
    tokenizer: Tokenizer
    commit: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Data:
    """Packed training sequences, the rows withheld for the eval loss, and what did not fit.

    ``n_boundary_merges``: rows whose whole text one tokenisation would have merged across prompt and answer.
    """

    packed: Packed
    withheld: Packed | None
    fitted: Fitted
    n_rows: int
    n_withheld: int
    longest: int
    n_boundary_merges: int


def load_model(
    job: Mapping[str, Any],
    dtype_name: str,
    seed: int,
    emit: Emit,
    stopping: Stopping,
    *,
    placement: device.Placement | None = None,
) -> Model:
    """Fresh weights, a local folder, or the hub's.

    With a ``placement`` each leaf of a folder goes to its own share of the devices, for a train step to take over.
    Emits note{text} about weights that are not read. Raises InputInvalid (M codes, T116), what hub.fetch raises.
    """
    dtype = jnp.dtype(dtype_name)
    if job["init"] == "random":
        tokenizer = build_chars()
        config = config_from_hf({**job["config"], **_tokenizer_keys(job["config"], tokenizer)}, "the run-spec")
        module = create(config, seed=seed, param_dtype=dtype, compute_dtype=dtype)
        return Model(module, config, tokenizer, None, f"random, seed {seed}")
    if job.get("path"):
        folder, commit = Path(job["path"]), None
    else:
        folder, commit = hub.fetch(job["id"], job["revision"], emit=emit, stopping=stopping)
    module, config, tokenizer = load_folder(
        folder,
        param_dtype=dtype,
        compute_dtype=dtype,
        place=(lambda _, shape: placement.sharding(shape)) if placement else None,
        may_donate=placement is not None,
        tell=lambda text: emit({"event": "note", "text": text}),
    )
    return Model(module, config, tokenizer, commit, commit or _folder_digest(folder))


def _folder_digest(folder: Path) -> str:
    """Of the files a model folder is made of; what lies in folders below it is not read."""
    hasher = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            hasher.update(f"{path.name} {digest_file(path)}\n".encode())
    return hasher.hexdigest()


def _tokenizer_keys(config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    """What the tokenizer decides of the configuration. Raises InputInvalid T116 where the spec says otherwise."""
    ours = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    wrong = {key: value for key, value in ours.items() if config.get(key, value) != value}
    if wrong:
        said = ", ".join(f"{key} {config[key]} (the tokenizer has {value})" for key, value in wrong.items())
        raise InputInvalid("T116", f"model.config contradicts the tokenizer: {said}", hint="leave these keys out")
    return ours


def load_data(path: Path, tokenizer: Tokenizer, args: TrainArgs) -> Data:
    """Tokenise, apply the length policy, withhold eval rows, pack. Raises InputInvalid T110 to T114, T117."""
    rows = read_token_rows(path, tokenizer)
    fitted = fit_rows(rows, args.seq_len, args.on_long_row)
    if args.eval_rows >= len(fitted.rows):
        raise InputInvalid(
            "T117",
            f"eval_rows {args.eval_rows} leaves nothing of {len(fitted.rows)} rows to train on",
            hint="lower eval_rows",
        )
    withheld, kept = withhold(fitted.rows, args.eval_rows, args.seed)
    packed = pack_rows(kept, args.seq_len, packing=args.packing, seed=args.seed)
    eval_packed = pack_rows(withheld, args.seq_len, packing=args.packing) if withheld else None
    longest = max(len(row.tokens) for row in fitted.rows)
    merged = sum(row.boundary_merges > 0 for row in rows)
    return Data(packed, eval_packed, fitted, len(kept), len(withheld), longest, merged)


def withhold(rows: tuple[TokenRow, ...], count: int, seed: int) -> tuple[list[TokenRow], list[TokenRow]]:
    """(withheld, kept): which rows is a pure function of the seed and the number of rows."""
    chosen = set(permutation(len(rows), seed, WITHHOLDING_STREAM)[:count])
    withheld = [row for index, row in enumerate(rows) if index in chosen]
    return withheld, [row for index, row in enumerate(rows) if index not in chosen]


def identity(job: Mapping[str, Any], args: TrainArgs, model: Model, data: Data) -> dict[str, Any]:
    """Everything a checkpoint depends on, by name, so that a refusal can say what differs."""
    return {
        "state_format": STATE_FORMAT,
        "rows": digest_file(Path(job["rows"])),
        "tokens": _tokens_digest(data),
        "model weights": model.origin,
        **{f"model {key}": value for key, value in sorted(model.config.to_hf().items())},
        **{f"argument {key}": value for key, value in args.identity().items()},
        **{f"library {name}": metadata.version(name) for name in device.LIBRARIES},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def _tokens_digest(data: Data) -> str:
    """Covers the tokenizer, the length policy and the packing, whatever they were."""
    hasher = hashlib.sha256()
    for packed in (data.packed, data.withheld):
        if packed is not None:
            for name, array in packed.take(range(packed.n_sequences)).items():
                hasher.update(f"{name} {array.shape}".encode())
                hasher.update(array.tobytes())
    return hasher.hexdigest()
