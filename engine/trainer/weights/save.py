"""In: a model. Out: a folder that transformers loads with equal logits; its bytes depend only on the values.

    save_folder(folder, model, config, tokenizer, dtype="bfloat16")                            # model.safetensors
    save_folder(folder, model, config, tokenizer, dtype="bfloat16", formats=["flax_msgpack"])  # flax_model.msgpack

Tensors are fetched from the devices and written one by one. Weights above ``max_shard_bytes`` are split into files with
an index, as Hugging Face does. Files are published when all of them are on disk; earlier files stay until then, and
weights of an earlier save that are not overwritten are removed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from engine.canonical import pretty_json, write_atomic
from engine.model_config import CONFIG_FILE
from engine.model_config.decoder import DecoderConfig
from engine.temporary import fsync_dir
from engine.trainer.models import family_of
from engine.trainer.models.decoder import Decoder
from engine.trainer.text.stop_tokens import GENERATION_FILE, stop_ids
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.weights import msgpack_file, safetensors_file
from engine.trainer.weights.filling import bits, cast, transpose_into
from engine.trainer.weights.folder import MSGPACK, SAFETENSORS
from engine.trainer.weights.reading import Array
from engine.trainer.weights.table import Slot, flax_name, slots

MAX_SHARD_BYTES = 5_000_000_000
NOT_COPIED = ("transformers_version",)  # keys of the base's generation config: the program that wrote it
FETCH_BYTES = 1 << 26  # fetched at once of an unstacked leaf on a device that is not the host
# Names that a reader of the folder takes for weights.
WEIGHTS_NAME = re.compile(r"(model|flax_model)(-\d{5}-of-\d{5})?\.(safetensors|msgpack)(\.index\.json)?")
Write = Callable[[IO[bytes], Mapping[str, tuple[int, ...]], np.dtype, Callable[[str], Array]], None]
# Name of a format -> (the name of an unsharded file, its writer)
FORMATS: dict[str, tuple[str, Write]] = {
    "safetensors": (SAFETENSORS, safetensors_file.write),
    "flax_msgpack": (MSGPACK, msgpack_file.write),
}


def save_folder(
    folder: str | Path,
    model: Decoder,
    config: DecoderConfig,
    tokenizer: Tokenizer,
    *,
    dtype: DTypeLike,
    formats: Sequence[str] = ("safetensors",),
    max_shard_bytes: int = MAX_SHARD_BYTES,
    generation: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write config.json, generation_config.json, the weights in each of ``formats`` and the tokenizer's files.

    ``generation``: see :func:`save_companions`. Weights are cast to ``dtype`` ("float32", "bfloat16" or "float16").
    Raises OSError (disk full); the folder's earlier weights are unchanged then.
    """
    folder, dtype = Path(folder), jnp.dtype(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = Tensors(model, config, dtype)
    with Publication(folder) as publication:
        for name in formats:
            _write_weights(publication, name, tensors, max_shard_bytes)
        save_companions(folder, config, tokenizer, dtype=dtype, generation=generation)
        publication.publish()


def save_companions(
    folder: str | Path,
    config: DecoderConfig,
    tokenizer: Tokenizer,
    *,
    dtype: DTypeLike,
    generation: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write the files beside the weights: config.json, generation_config.json and the tokenizer's files.

    ``generation`` is the base's generation config: its end ids are added to the model's own, and its other keys
    (temperature, top_k and other sampling defaults of transformers) are copied unchanged.
    """
    folder = Path(folder)
    ends = {config.eos_token_id, *config.more_eos_ids, *stop_ids(tokenizer, generation)}
    copied = {key: value for key, value in generation.items() if key not in NOT_COPIED and not key.startswith("_")}
    written = copied | {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": sorted(ends) if len(ends) > 1 else config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / CONFIG_FILE, pretty_json(config.to_hf(dtype=jnp.dtype(dtype).name)))
    write_atomic(folder / GENERATION_FILE, pretty_json(written))
    tokenizer.save(folder)


class Tensors:
    """The tensors of a model in their stored form, each made when it is requested."""

    def __init__(self, model: Decoder, config: DecoderConfig, dtype: np.dtype) -> None:
        self._leaves, self.dtype = model.weights(), dtype
        self.slots = sorted(slots(family_of(config), config), key=_natural)

    def fetch(self, slot: Slot, *, is_flax: bool) -> Array:
        """One tensor, contiguous, in the layout of the format."""
        host = cast(_host(self._leaves[slot.leaf], slot.layer), self.dtype)
        if is_flax or not slot.is_matrix:
            return host
        transposed = np.empty(host.shape[::-1], host.dtype)
        transpose_into(bits(transposed), bits(host))
        return transposed

    def shards(self, max_bytes: int) -> list[list[Slot]]:
        """The slots of each file: a new one begins where ``max_bytes`` would be exceeded, as Hugging Face does it."""
        shards: list[list[Slot]] = [[]]
        filled = 0
        for slot in self.slots:
            size = math.prod(slot.shape) * self.dtype.itemsize
            if shards[-1] and filled + size > max_bytes:
                shards.append([])
                filled = 0
            shards[-1].append(slot)
            filled += size
        return shards


def _natural(slot: Slot) -> list[tuple[int, int, str]]:
    """Sort key: layer 10 after layer 9, so that a file has consecutive layers."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in slot.stored_name.split(".")]


def _host(leaf: jax.Array | Array, layer: int | None) -> Array:
    """A leaf or one layer of it, assembled on the host from the devices' shards: no device receives another's.

    A leaf that is on the host already (several processes: engine.trainer.distributed.gather) stays there.
    """
    if isinstance(leaf, np.ndarray):
        return leaf if layer is None else leaf[layer]
    host = np.empty(leaf.shape if layer is None else (1, *leaf.shape[1:]), leaf.dtype)
    for shard in leaf.addressable_shards:
        (low, high), *others = (axis.indices(size)[:2] for axis, size in zip(shard.index, leaf.shape, strict=True))
        if shard.replica_id or (layer is not None and not low <= layer < high):
            continue
        inner = tuple(slice(*bounds) for bounds in others)
        for start, stop in _steps(shard.data, None if layer is None else layer - low):
            begin = low + start if layer is None else 0
            host[(slice(begin, begin + stop - start), *inner)] = fetch_rows(shard.data, start, stop)
    return host if layer is None else host[0]


def _steps(data: jax.Array, row: int | None) -> Iterator[tuple[int, int]]:
    """The ranges of rows to fetch: just ``row``, or all of them in pieces."""
    if row is not None:
        return iter([(row, row + 1)])
    step = max(1, FETCH_BYTES * len(data) // max(1, data.nbytes))
    return ((start, min(start + step, len(data))) for start in range(0, len(data), step))


def fetch_rows(data: jax.Array, start: int, stop: int) -> Array:
    """Rows of an array on one device. JAX caches the host copy of an array in it, so a slice is copied."""
    (device,) = data.devices()
    if device.platform == "cpu":
        return np.asarray(data)[start:stop]  # a view, no copy
    return sliced_rows(data, start, stop)


def sliced_rows(data: jax.Array, start: int, stop: int) -> Array:
    """Slice on the device; compiled once for each number of rows."""
    return np.asarray(jax.lax.dynamic_slice_in_dim(data, np.int32(start), stop - start))


class Publication:
    """Files written under temporary names and renamed together; a context manager that leaves no temporary files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[Path, Path] = {}  # temporary -> final

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary in self._pending:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write; on disk when the block ends, under its final name after :meth:`publish`."""
        temporary = self._folder / f".{name}.tmp"
        self._pending[temporary] = self._folder / name
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())

    def publish(self) -> None:
        """Rename all files and remove weights of an earlier save, which a reader might prefer."""
        final = set(self._pending.values())
        for temporary in list(self._pending):
            os.replace(temporary, self._pending.pop(temporary))
        for path in sorted(self._folder.iterdir()):
            if WEIGHTS_NAME.fullmatch(path.name) and path not in final:
                path.unlink()
        fsync_dir(self._folder)


def _write_weights(publication: Publication, form: str, tensors: Tensors, max_bytes: int) -> None:
    """One file, or several and their index."""
    unsharded, write = FORMATS[form]
    is_flax = unsharded == MSGPACK
    shards = tensors.shards(max_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = unsharded if len(shards) == 1 else f"-{number:05}-of-{len(shards):05}.".join(unsharded.split("."))
        by_name = {flax_name(slot) if is_flax else slot.stored_name: slot for slot in shard}
        shapes = {stored: slot.stored_shape(is_flax=is_flax) for stored, slot in by_name.items()}
        weight_map |= dict.fromkeys(by_name, name)
        with publication.file(name) as stream:
            write(stream, shapes, tensors.dtype, _fetching(tensors, by_name, is_flax=is_flax))
    if len(shards) > 1:
        count = sum(math.prod(slot.shape) for slot in tensors.slots)
        metadata = {"total_parameters": count, "total_size": count * tensors.dtype.itemsize}
        index = json.dumps({"metadata": metadata, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n"
        with publication.file(f"{unsharded}.index.json") as stream:
            stream.write(index.encode())


def _fetching(tensors: Tensors, by_name: Mapping[str, Slot], *, is_flax: bool) -> Callable[[str], Array]:
    return lambda name: tensors.fetch(by_name[name], is_flax=is_flax)
