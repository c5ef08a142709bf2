"""The inputs of a training run: the loaded model, and the identity of model and data.

In: parts of the job. Out: :class:`Model`, :class:`TrainRun`, and the identity that a checkpoint is checked against.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from engine.canonical import digest_file, files_below
from engine.errors import InputInvalid
from engine.model_config import config_from_hf, read_config, read_folder
from engine.model_config.decoder import DecoderConfig
from engine.model_config.folder_files import orbax_checkpoint
from engine.protocol.events.base import Note
from engine.protocol.jobs import ModelSource, TrainJob
from engine.protocol.kaggle_models import parse_kaggle_model
from engine.protocol.train_args import TrainArgs
from engine.trainer import device, hub
from engine.trainer.checkpoint.manifest import MATMUL_DTYPE
from engine.trainer.code_digest import numbers_digest
from engine.trainer.distributed.placement import Placement
from engine.trainer.distributed.processes import ProcessGroup
from engine.trainer.hub.kaggle import fetch_kaggle
from engine.trainer.input_pipeline.dataset import Data
from engine.trainer.models import create
from engine.trainer.models.decoder import Decoder
from engine.trainer.ops.matmul import dtype_of, matmul_rule
from engine.trainer.process import Emit, Stopping
from engine.trainer.reference.export_check import ExportCheck
from engine.trainer.text.stop_tokens import GENERATION_FILE, read_generation_config, stop_ids
from engine.trainer.text.tokenizer import Tokenizer, build_chars
from engine.trainer.weights import load_folder, model_folder

SIMULATED_DEVICES = "--xla_force_host_platform_device_count"  # the topology says how many there are


@dataclass(frozen=True, slots=True)
class Model:
    """The job's ``model``, loaded.

    ``commit`` is the hub's, None elsewhere; ``origin`` names the weights; ``generation`` is the folder's generation
    config, which is exported again; ``base_config`` its config.json as it stands there, None for fresh weights; ``kaggle`` what
    the record has of a model on Kaggle, None elsewhere; ``cut_rows`` the rows of the embedding that were not read.
    """

    module: Decoder
    config: DecoderConfig
    tokenizer: Tokenizer
    commit: str | None
    origin: str
    generation: Mapping[str, Any] = field(default_factory=dict)
    base_config: Mapping[str, Any] | None = None
    kaggle: Mapping[str, Any] | None = None
    cut_rows: int = 0


@dataclass(frozen=True, slots=True)
class TrainRun:
    """The parts of one training run that do not change while it runs."""

    job: TrainJob
    model: Model
    data: Data
    placement: Placement
    processes: ProcessGroup
    emit: Emit
    stopping: Stopping
    export_check: ExportCheck | None = None

    def check_export(self) -> None:
        """What transformers says about the export. Raises InputInvalid M109, M110, M311."""
        for sentence in self.export_check.wait() if self.export_check else ():
            self.emit(Note(sentence))

    @property
    def args(self) -> TrainArgs:
        """The arguments as the job has them; on other devices those in effect may differ (engine.trainer.restore)."""
        return self.job.args


def load_model(
    source: ModelSource,
    dtype_name: str,
    seed: int,
    emit: Emit,
    stopping: Stopping,
    *,
    placement: Placement | None = None,
) -> Model:
    """Fresh weights, a local folder, Kaggle's or the hub's.

    With a ``placement`` each leaf of a folder is sharded over the devices, to be donated to a train step.
    Emits note{text} about weights that are not read. Raises InputInvalid (M codes, T116), what hub.fetch and fetch_kaggle raise.
    """
    dtype = jnp.dtype(dtype_name)
    if source.init == "random":
        tokenizer, declared = build_chars(), source.config or {}
        config = config_from_hf({**declared, **_tokenizer_keys(declared, tokenizer)}, "the run-spec")
        module = create(config, seed=seed, param_dtype=dtype, compute_dtype=dtype)
        return Model(module, config, tokenizer, None, f"random, seed {seed}")
    commit, kaggle = None, None
    if source.path:
        folder = Path(source.path)
    elif source.kaggle:
        model = parse_kaggle_model(source.kaggle)
        kaggle = fetch_kaggle(model, emit=emit, stopping=stopping, judge=read_folder)
        folder = kaggle.folder
    else:
        folder, commit = hub.fetch(source.id, source.revision, emit=emit, stopping=stopping, judge=read_folder)
    origin = kaggle.digest if kaggle else commit or _folder_digest(folder)
    facts = kaggle.facts if kaggle else None
    with model_folder(folder) as readable:
        if readable.cut_rows:
            emit(Note(f"not read: {readable.cut_rows} rows at the end of the embedding, which no token has"))
        loaded = _loaded(readable.path, dtype, emit, placement)
    return replace(loaded, commit=commit, origin=origin, kaggle=facts, cut_rows=readable.cut_rows)


def _loaded(folder: Path, dtype: np.dtype, emit: Emit, placement: Placement | None) -> Model:
    """The model of a folder of Hugging Face's kind; where it came from is for the caller to add."""
    generation = read_generation_config(folder)
    module, config, tokenizer = load_folder(
        folder,
        param_dtype=dtype,
        compute_dtype=dtype,
        sharding_of=placement.weight_shardings(read_folder(folder).config) if placement else None,
        may_donate=placement is not None,
        tell=lambda text: emit(Note(text)),
    )
    stop_ids(tokenizer, generation, str(folder / GENERATION_FILE))
    return Model(module, config, tokenizer, None, "", generation, read_config(folder))


def _folder_digest(folder: Path) -> str:
    """Digest of the files in a model folder; of its subfolders only the checkpoint of a Flax variation counts."""
    hasher, checkpoint = hashlib.sha256(), orbax_checkpoint(folder)
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    for path in sorted([*files, *(files_below(checkpoint) if checkpoint else ())]):
        hasher.update(f"{path.relative_to(folder).as_posix()} {digest_file(path)}\n".encode())
    return hasher.hexdigest()


def _tokenizer_keys(config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    """The configuration's keys that the tokenizer decides. Raises InputInvalid T116 where the spec contradicts it."""
    keys = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    wrong = {key: value for key, value in keys.items() if config.get(key, value) != value}
    if wrong:
        contradictions = ", ".join(f"{key} {config[key]} (the tokenizer has {value})" for key, value in wrong.items())
        raise InputInvalid(
            "T116", f"model.config contradicts the tokenizer: {contradictions}", hint="leave these keys out"
        )
    return keys


def identity(args: TrainArgs, model: Model, data: Data) -> dict[str, Any]:
    """Everything that a checkpoint depends on except the topology, by name, so that a refusal can name what differs.

    JAX calls every CPU "cpu": what ``matmul_dtype: auto`` chose for this one is a value of its own.
    """
    matmul = matmul_rule(args.matmul_dtype, args.dtype, jax.local_devices()[0])
    flags = os.environ.get("XLA_FLAGS", "")
    return {
        "rows": data.rows_digest,
        "tokens": data.tokens_digest,
        "packing plan": data.plan_digest,
        "model weights": model.origin,
        **{f"model {key}": value for key, value in sorted(model.config.to_hf().items())},
        **{f"argument {key}": value for key, value in args.identity().items()},
        MATMUL_DTYPE: dtype_of(matmul, args.dtype),
        **{f"library {name}": metadata.version(name) for name in device.LIBRARIES},
        "library python": ".".join(platform.python_version_tuple()[:2]),
        "trainer code": numbers_digest(),
        "XLA_FLAGS": " ".join(flag for flag in flags.split() if not flag.startswith(SIMULATED_DEVICES)),
    }
