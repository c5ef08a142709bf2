"""A Flax variation as a model folder: an orbax checkpoint beside a SentencePiece model, without config.json.

In: such a folder. Out: for the time of a block a folder of Hugging Face's kind, of links and of a config.json that is worked out from names and
shapes; any other folder is itself.

    with model_folder(folder) as readable:
        load_folder(readable.path)

Shapes give sizes, names the family. What neither gives (the window, the scale of queries, the factor of positions) is known for the published
sizes of Gemma 2 and 3; for another size a config.json beside the checkpoint has to say it (M114).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from engine.canonical import pretty_json
from engine.errors import InputInvalid, Where
from engine.model_config import CONFIG_FILE
from engine.model_config.folder_files import orbax_checkpoint
from engine.temporary import working_folder
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.text.tokenizer_files import MODEL_FILE
from engine.trainer.weights.einsum import EMBEDDING, GATING, depth_of, layer_parts
from engine.trainer.weights.orbax_folder import Arrays, open_arrays

MOST_PADDING_ROWS = 1024  # embeddings are padded to multiples of 64 to 1024
# (family, layers, width) -> what no shape says, of the published sizes.
_G2: Mapping[str, Any] = {"sliding_window": 4096, "query_pre_attn_scalar": 256}
_G3: Mapping[str, Any] = {"sliding_window": 512, "query_pre_attn_scalar": 256, "max_position_embeddings": 32_768}
_G3_LONG: Mapping[str, Any] = {
    "sliding_window": 1024, "query_pre_attn_scalar": 256, "max_position_embeddings": 131_072,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}  # fmt: skip
PUBLISHED: dict[tuple[str, int, int], Mapping[str, Any]] = {
    ("gemma2", 26, 2304): _G2,
    ("gemma2", 42, 3584): _G2,
    ("gemma2", 46, 4608): {**_G2, "query_pre_attn_scalar": 144},
    ("gemma3_text", 18, 640): _G3,
    ("gemma3_text", 26, 1152): _G3,
    ("gemma3_text", 34, 2560): _G3_LONG,
    ("gemma3_text", 48, 3840): _G3_LONG,
    ("gemma3_text", 62, 5376): {**_G3_LONG, "query_pre_attn_scalar": 168},
}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder of Hugging Face's kind. ``cut_rows``: rows of the embedding that no token has, and that are not read."""

    path: Path
    cut_rows: int = 0


@contextmanager
def model_folder(folder: Path) -> Iterator[ModelFolder]:
    """Raises InputInvalid M114 (sizes that are not known), M205 (damaged checkpoint), M208 (several), M3xx (tokenizer)."""
    checkpoint = orbax_checkpoint(folder)
    if checkpoint is None:
        yield ModelFolder(folder)
        return
    arrays = open_arrays(checkpoint)
    with working_folder("runspec-flax-") as made:
        for path in folder.iterdir():
            if path.is_file() or path == checkpoint:
                (made / path.name).symlink_to(path.absolute(), target_is_directory=path.is_dir())
        rows = arrays[EMBEDDING].shape[0] if EMBEDDING in arrays else 0
        tokens = _tokens(folder)
        vocab_size = tokens if tokens <= rows <= tokens + MOST_PADDING_ROWS else rows
        if not (folder / CONFIG_FILE).is_file():
            mapping = derived_config(
                {name: tuple(array.shape) for name, array in arrays.items()}, vocab_size, checkpoint
            )
            (made / CONFIG_FILE).write_bytes(pretty_json({**mapping, "dtype": _dtype(arrays)}).encode())
        yield ModelFolder(made, max(0, rows - vocab_size))


def _tokens(folder: Path) -> int:
    """Tokens of the vocabulary: of the SentencePiece model, which is quick, else of the tokenizer."""
    path = folder / MODEL_FILE
    if path.is_file():
        try:
            return int(sentencepiece.SentencePieceProcessor(model_file=str(path)).vocab_size())
        except (RuntimeError, OSError) as error:
            raise InputInvalid(
                "M302",
                f"{MODEL_FILE} is not a SentencePiece model",
                where=Where(file=str(path)),
                hint="fetch or copy it again",
            ) from error
    return Tokenizer.load(folder).vocab_size


def _dtype(arrays: Arrays) -> str:
    return str(arrays[EMBEDDING].dtype.name)


def derived_config(shapes: Mapping[str, tuple[int, ...]], vocab_size: int, folder: Path) -> dict[str, Any]:
    """config.json's keys, from names and shapes. Raises InputInvalid M114 where they are of no Gemma, or of a size that is not published.

    >>> shapes = {"embedder/input_embedding": (384, 32), "layer_0/attn/q_einsum/w": (2, 32, 16), "layer_0/attn/kv_einsum/w": (2, 1, 32, 16),
    ...           "layer_0/mlp/linear": (64, 32), "layer_0/mlp/gating_einsum": (2, 32, 64)}
    >>> config = derived_config(shapes, 260, Path("2b"))
    >>> config["model_type"], config["head_dim"], config["num_hidden_layers"], config["intermediate_size"]
    ('gemma', 16, 1, 64)
    """
    parts = layer_parts(shapes)
    family = (
        "gemma3_text" if "attn/_query_norm/scale" in parts else "gemma2" if "post_ffw_norm/scale" in parts else "gemma"
    )
    try:
        _, width = shapes[EMBEDDING]
        heads, kv_heads, head_dim = _heads(shapes)
        gating = _first(shapes, GATING)
    except (KeyError, ValueError, StopIteration) as error:
        raise _unknown(folder, "it is not of a Gemma in the Flax variation's layout") from error
    depth = depth_of(shapes)
    sizes = {
        "model_type": family,
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": gating[2] if gating[1] == width else gating[1],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
    }
    if family == "gemma":
        return sizes
    known = PUBLISHED.get((family, depth, width))
    if known is None:
        raise _unknown(
            folder, f"no {family} of {depth} layers and width {width} is published, and no shape says its window"
        )
    return {**sizes, **known}


def _heads(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """Heads of queries, of keys, and their width."""
    if any("qkv_einsum" in name for name in shapes):
        _, heads, _, head_dim = _first(shapes, "attn/qkv_einsum")
        return heads, heads, head_dim
    heads, _, head_dim = _first(shapes, "attn/q_einsum")
    return heads, _first(shapes, "attn/kv_einsum")[1], head_dim


def _first(shapes: Mapping[str, tuple[int, ...]], part: str) -> tuple[int, ...]:
    return next(shape for name, shape in shapes.items() if name.removesuffix("/w").endswith(f"/{part}"))


def _unknown(folder: Path, what: str) -> InputInvalid:
    return InputInvalid(
        "M114",
        f"the configuration of this checkpoint cannot be worked out: {what}",
        where=Where(file=str(folder)),
        hint="put its config.json, with Hugging Face's keys, beside the checkpoint's folder",
    )
