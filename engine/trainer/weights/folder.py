"""The weight files of a model folder, in either format, in one file or in shards; only headers are read.

In: a folder, and which prefixes a family's files may have. Out: every stored tensor, by Hugging
Face's safetensors names. Order of preference: model.safetensors, its index, flax_model.msgpack, its index, a folder of orbax's (a Flax variation).

    with open_weights(folder, family, config.vocab_size) as contents:
        contents.tensors     # [Stored("model.norm.weight", …), …]
        contents.not_read    # names that the family ignores: the vision part of a larger model

Flax files name the same weights "model/layers/0/self_attn/q_proj/kernel" and store matrices [in, out].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from engine.errors import Diagnostic, InputInvalid, Where
from engine.model_config import NO_MODEL
from engine.model_config.folder_files import file_in, orbax_checkpoint, what_else
from engine.trainer.weights import einsum, msgpack_file, safetensors_file
from engine.trainer.weights.orbax_folder import open_arrays
from engine.trainer.weights.reading import Stored, WeightsFile

SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"
INDEX = ".index.json"  # suffix of the index of sharded weights
# The last part of a Flax name -> safetensors' one.
FLAX_LEAVES = {"kernel": "weight", "embedding": "weight"}


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The tensors in the files of a folder."""

    tensors: list[Stored]
    not_read: list[str]


@contextmanager
def open_weights(folder: Path, family: ModuleType, vocab_size: int) -> Iterator[FolderContents]:
    """The folder's tensors, readable until the block ends.

    A family may have KEY_PREFIXES {prefix in files: its replacement} and IGNORED_PREFIXES (of weights that are not its
    own). ``vocab_size``: the rows of a Flax variation's embedding that are read. Raises InputInvalid M201 (no weights), M205 (damaged), M206 (index
    broken), M208 (several checkpoints).
    """
    checkpoint = orbax_checkpoint(folder)
    if checkpoint is not None:
        yield FolderContents(*einsum.tensors(checkpoint, open_arrays(checkpoint), vocab_size))
        return
    prefixes: Mapping[str, str] = getattr(family, "KEY_PREFIXES", {})
    ignored: tuple[str, ...] = getattr(family, "IGNORED_PREFIXES", ())
    with ExitStack() as stack:
        contents = FolderContents([], [])
        for path, expected in weight_files(folder):
            file = stack.enter_context(WeightsFile(path))
            stored = (msgpack_file if path.suffix == ".msgpack" else safetensors_file).index(file)
            if expected is not None and {tensor.name for tensor in stored} != expected:
                raise _index_differs(path, {tensor.name for tensor in stored}, expected)
            for tensor in stored:
                name = common_name(tensor.name, prefixes)
                if name.startswith(ignored):
                    contents.not_read.append(name)
                else:
                    contents.tensors.append(replace(tensor, name=name))
        yield contents


def common_name(name: str, prefixes: Mapping[str, str]) -> str:
    """The safetensors name of a stored tensor.

    >>> common_name("model/layers/0/mlp/up_proj/kernel", {})
    'model.layers.0.mlp.up_proj.weight'
    >>> common_name("language_model.model.norm.weight", {"language_model.model.": "model."})
    'model.norm.weight'
    """
    if "/" in name:
        parts = name.removeprefix("params/").split("/")
        name = ".".join([*parts[:-1], FLAX_LEAVES.get(parts[-1], parts[-1])])
    for prefix, replacement in prefixes.items():
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name


def weight_files(folder: Path) -> list[tuple[Path, frozenset[str] | None]]:
    """(file, the names in it by the index; None: no index). Raises InputInvalid M201 (no weights), M206 (index), M112 (no file)."""
    for name in (SAFETENSORS, MSGPACK):
        if file_in(folder, name) is not None:
            return [(folder / name, None)]
        index = file_in(folder, f"{name}{INDEX}")
        if index is not None:
            return _sharded(index)
    raise InputInvalid(
        "M201",
        f"the folder has no weights: neither {SAFETENSORS} nor {MSGPACK}, nor the index of either",
        where=Where(file=str(folder)),
        hint=NO_MODEL,
    )


def _sharded(index: Path) -> list[tuple[Path, frozenset[str] | None]]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        files: dict[str, set[str]] = {}
        for name, file in weight_map.items():
            files.setdefault(file, set()).add(name)
        bad = [name for name in sorted(files) if Path(name).name != name or not (index.parent / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputInvalid(
            "M206",
            f"not an index of weights: {error!r}",
            where=Where(file=str(index)),
            hint="fetch the folder again",
        ) from error
    if bad:
        raise InputInvalid.of(
            Diagnostic(
                "M206",
                f'the index names "{name}", which is {what_else(index.parent / name) or "not in the folder"}',
                Where(file=str(index)),
                "fetch that file, or the whole folder again",
            )
            for name in bad
        )
    return [(index.parent / name, frozenset(files[name])) for name in sorted(files)]


def _index_differs(path: Path, stored: set[str], expected: frozenset[str]) -> Exception:
    lines = [f"the index names {name}, the file lacks it" for name in sorted(expected - stored)]
    lines += [f"the file has {name}, the index does not name it" for name in sorted(stored - expected)]
    hint = "index and files belong to different models; fetch the folder again"
    return InputInvalid.of(Diagnostic("M206", line, Where(file=str(path)), hint) for line in lines)
