"""How weights are sharded over a mesh: one rule for every family, adapters and statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.preflight.analytic import KNOWN_CONFIGS
from engine.trainer.config.mesh import MeshSize
from engine.trainer.distributed.sharding import Layout
from engine.trainer.models import config_from_hf

FAMILIES = ("google/gemma-2b", "google/gemma-7b", "google/gemma-2-2b", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt")
MESHES = [MeshSize(fsdp, tp) for fsdp in (1, 2, 4, 8) for tp in (1, 2, 4, 8, 3)]


def _config(name: str) -> Any:
    return config_from_hf({"model_type": "gemma", **KNOWN_CONFIGS[name]})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_cut_divides_and_no_head_is_cut_by_tp(name):
    """On any mesh: lengths divide, an axis of the mesh is used once a leaf, tp cuts whole heads, L and R stay whole."""
    config = _config(name)
    for size in MESHES:
        layout, heads = Layout(config, size), {"NH": config.num_attention_heads, "KH": config.num_key_value_heads}
        for leaf, words in layout.words.items():
            sizes = {"R": 16, **_lengths(config)}
            shape = tuple(sizes[word] for word in words)
            cut = layout.cut(leaf, shape)
            used = [axis for axes in cut for axis in axes]
            assert len(used) == len(set(used))
            for word, length, axes in zip(words, shape, cut, strict=True):
                parts = math.prod(size._asdict()[axis] for axis in axes)
                assert length % parts == 0
                assert not (axes and word in ("L", "R"))
                assert "tp" not in axes or word not in heads or heads[word] % size.tp == 0


def _lengths(config: Any) -> dict[str, int]:
    return {
        "V": config.vocab_size, "D": config.hidden_size, "F": config.intermediate_size, "L": config.num_hidden_layers,
        "H": config.head_dim, "NH": config.num_attention_heads * config.head_dim,
        "KH": config.num_key_value_heads * config.head_dim,
    }  # fmt: skip


def test_statistics_lie_as_their_weight(make_args):
    """AdamW's as the weight; Adafactor's row and column as the axes they keep, or along fsdp where those are whole."""
    layout = Layout(_config("google/gemma-2b"), MeshSize(4, 2))
    weight = layout.cut("layers.gate", (18, 2048, 16_384))
    assert weight == ((), ("fsdp",), ("tp",))
    assert layout.cut_in_state("opt_state.stats.layers.gate.mu", (18, 2048, 16_384)) == weight
    assert layout.cut_in_state("opt_state.master.layers.gate", (18, 2048, 16_384)) == weight
    assert layout.cut_in_state("opt_state.stats.layers.gate.row", (18, 2048)) == ((), ("fsdp",))
    assert layout.cut_in_state("opt_state.stats.layers.gate.col", (18, 16_384)) == ((), ("tp",))
    assert layout.cut_in_state("opt_state.count", ()) == ()
