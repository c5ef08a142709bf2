"""The Flax variation's arrays as the tensors of a Hugging Face file: names, slices and axes, of Gemma 1, 2 and 3.

In: the arrays of an orbax folder by their short names. Out: :class:`Stored` tensors in Flax's layout, each a view that is read row by row.

    embedder/input_embedding     [V + 128, D]   -> model.embed_tokens.weight [V, D]: rows that no token has are cut
    layer_i/attn/q_einsum/w      [N, D, H]      -> q_proj [D, N*H]
    layer_i/attn/kv_einsum/w     [2, K, D, H]   -> k_proj, v_proj [D, K*H]
    layer_i/attn/qkv_einsum/w    [3, N, D, H]   -> q_proj, k_proj, v_proj: where there are as many heads of keys as of queries
    layer_i/attn/attn_vec_einsum/w [N, H, D]    -> o_proj [N*H, D]
    layer_i/mlp/gating_einsum    [2, D, F]      -> gate_proj, up_proj [D, F]; Gemma 3 and the larger Gemma 2: [2, F, D]
    layer_i/mlp/linear           [F, D]         -> down_proj [F, D]

Heads are in the same order in both, norms are stored without the 1 in both, and a matrix may end in ``w`` or not. What is of images is not
read, as in the larger files of Hugging Face; every other name that is not in the table keeps its own, and matches no parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from engine.trainer.weights.orbax_folder import Arrays, reading
from engine.trainer.weights.reading import Array, Stored

EMBEDDING, FINAL_NORM = "embedder/input_embedding", "final_norm/scale"
OF_IMAGES = re.compile(r"(siglip|vision|mm_)", re.IGNORECASE)
_LAYER = re.compile(r"layer_(\d+)/(.+)")
GATING, LINEAR = "mlp/gating_einsum", "mlp/linear"
MODEL = "model.layers.{}."


class Cut(NamedTuple):
    """One tensor of an array: which part of the first axis, which axes in which order, how many of them make the rows."""

    name: str
    part: int | None
    axes: tuple[int, ...]
    row_axes: int = 1


_HEADS, _ROWS = (1, 0, 2), (0, 1)  # [N, D, H] -> [D, N, H]
_TABLE: Mapping[str, tuple[Cut, ...]] = {
    "attn/q_einsum": (Cut("self_attn.q_proj.weight", None, _HEADS),),
    "attn/kv_einsum": (Cut("self_attn.k_proj.weight", 0, _HEADS), Cut("self_attn.v_proj.weight", 1, _HEADS)),
    "attn/qkv_einsum": tuple(Cut(f"self_attn.{one}_proj.weight", part, _HEADS) for part, one in enumerate("qkv")),
    "attn/attn_vec_einsum": (Cut("self_attn.o_proj.weight", None, (0, 1, 2), row_axes=2),),
    GATING: (Cut("mlp.gate_proj.weight", 0, _ROWS), Cut("mlp.up_proj.weight", 1, _ROWS)),
    LINEAR: (Cut("mlp.down_proj.weight", None, _ROWS),),
    **{
        f"{ours}/scale": (Cut(theirs, None, (0,)),)
        for ours, theirs in (
            ("attn/_query_norm", "self_attn.q_norm.weight"),
            ("attn/_key_norm", "self_attn.k_norm.weight"),
            ("pre_attention_norm", "input_layernorm.weight"),
            ("post_attention_norm", "post_attention_layernorm.weight"),
            ("pre_ffw_norm", "pre_feedforward_layernorm.weight"),
            ("post_ffw_norm", "post_feedforward_layernorm.weight"),
        )
    },
}
# Gemma 1 has two norms in a layer, and its second one this name in Hugging Face's files.
ONLY_NORM_BEFORE_MLP = "post_attention_layernorm.weight"


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """A part of an array, its axes in our order; ``row_axes`` of them count as one."""

    store: ts.TensorStore
    row_axes: int
    folder: Path
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """[rows, columns], or [rows] of a norm."""
        sizes = tuple(map(int, self.store.shape))
        rows, rest = sizes[: self.row_axes], sizes[self.row_axes :]
        return (int(np.prod(rows)), *([int(np.prod(rest))] if rest else []))

    def rows(self, start: int, stop: int) -> Array:
        """Rows start..stop, contiguous. Raises InputInvalid M205."""
        inner = int(np.prod(self.store.shape[1 : self.row_axes])) if self.row_axes > 1 else 1
        first, last = start // inner, -(-stop // inner)
        with reading(self.folder, self.name):
            block: Array = self.store[first:last].read(order="C").result()
        block = block.reshape((last - first) * inner, *self.shape[1:])
        return np.ascontiguousarray(block[start - first * inner : stop - first * inner])


class CheckpointFolder(NamedTuple):
    """In the place of a file of weights: for messages."""

    path: Path


def layer_parts(names: Iterable[str]) -> set[str]:
    """What stands below ``layer_i`` in any layer, without the last ``w``.

    >>> sorted(layer_parts(["layer_0/attn/q_einsum/w", "layer_11/mlp/linear", "final_norm/scale"]))
    ['attn/q_einsum', 'mlp/linear']
    """
    return {found[2].removesuffix("/w") for found in map(_LAYER.fullmatch, names) if found}


def depth_of(names: Iterable[str]) -> int:
    """Layers, by the highest number."""
    return max((int(found[1]) + 1 for found in map(_LAYER.fullmatch, names) if found), default=0)


def tensors(folder: Path, arrays: Arrays, vocab_size: int) -> tuple[list[Stored], list[str]]:
    """(Every tensor of the text part, the names that are of images). The embedding has ``vocab_size`` rows where it has more."""
    is_first_gemma = "post_ffw_norm/scale" not in layer_parts(arrays)
    width = arrays[EMBEDDING].shape[1] if EMBEDDING in arrays else 0
    found: list[Stored] = []
    not_read: list[str] = []
    for name, array in arrays.items():
        if OF_IMAGES.search(name):
            not_read.append(name)
        else:
            found += (
                _stored(folder, hf_name, array, cut)
                for hf_name, array, cut in _cuts(name, array, vocab_size, width, is_first_gemma)
            )
    return found, not_read


def _cuts(
    name: str, array: ts.TensorStore, vocab_size: int, width: int, is_first_gemma: bool
) -> Iterator[tuple[str, ts.TensorStore, Cut]]:
    """(The name in a Hugging Face file, the array, what is taken of it) of each tensor in an array."""
    layer = _LAYER.fullmatch(name)
    cuts = _TABLE.get(layer[2].removesuffix("/w")) if layer else None
    if name == EMBEDDING:
        yield "model.embed_tokens.weight", array[: min(vocab_size, array.shape[0])], Cut("", None, (0, 1))
    elif name == FINAL_NORM:
        yield "model.norm.weight", array, Cut("", None, (0,))
    elif layer is None or cuts is None:
        yield name, array, Cut("", None, tuple(range(array.ndim)))
    else:
        for cut in cuts:
            own = cut.name
            if is_first_gemma and own == "pre_feedforward_layernorm.weight":
                own = ONLY_NORM_BEFORE_MLP
            is_turned = cut in _TABLE[GATING] and array.ndim == 3 and array.shape[1] != width
            yield f"{MODEL.format(layer[1])}{own}", array, cut._replace(axes=(1, 0)) if is_turned else cut


def _stored(folder: Path, name: str, array: ts.TensorStore, cut: Cut) -> Stored:
    """The tensor. Where the array has other axes than the table says, as it is: its shape is then an error of the match."""
    part = array if cut.part is None else array[cut.part] if array.ndim == len(cut.axes) + 1 else array
    if part.ndim == len(cut.axes):
        view = ArrayPart(part.transpose(list(cut.axes)), cut.row_axes, folder, name)
    else:
        view = ArrayPart(part, 1, folder, name)
    return Stored(name, CheckpointFolder(folder), part.dtype.name, view.shape, (), view)
