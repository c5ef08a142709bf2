"""How weights are sharded over a mesh: one rule for every family, adapters and statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.model_config.shapes import KNOWN_CONFIGS
from engine.trainer.config.mesh import MeshSize
from engine.trainer.distributed.sharding import Layout
from engine.trainer.models import config_from_hf

FAMILIES = ("google/gemma-2b", "google/gemma-7b", "google/gemma-2-2b", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt")
MESHES = [MeshSize(fsdp, tp) for fsdp in (1, 2, 4, 8) for tp in (1, 2, 4, 8, 3)]


def _config(name: str) -> Any:
    return config_from_hf({"model_type": "gemma", **KNOWN_CONFIGS[name]})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_partition_divides_and_tp_splits_no_head(name):
    """On any mesh: lengths divide, an axis of the mesh is used once a leaf, tp splits no head, L and R are not sharded."""
    config = _config(name)
    for size in MESHES:
        layout, heads = Layout(config, size), {"NH": config.num_attention_heads, "KH": config.num_key_value_heads}
        for leaf, names in layout.axis_names.items():
            sizes = {"R": 16, **_lengths(config)}
            shape = tuple(sizes[name] for name in names)
            partition = layout.partition(leaf, shape)
            used = [axis for axes in partition for axis in axes]
            assert len(used) == len(set(used))
            for axis_name, length, axes in zip(names, shape, partition, strict=True):
                parts = math.prod(size._asdict()[axis] for axis in axes)
                assert length % parts == 0
                assert not (axes and axis_name in ("L", "R"))
                assert "tp" not in axes or axis_name not in heads or heads[axis_name] % size.tp == 0


def _lengths(config: Any) -> dict[str, int]:
    return {
        "V": config.vocab_size, "D": config.hidden_size, "F": config.intermediate_size, "L": config.num_hidden_layers,
        "H": config.head_dim, "NH": config.num_attention_heads * config.head_dim,
        "KH": config.num_key_value_heads * config.head_dim,
    }  # fmt: skip


def test_statistics_are_sharded_as_their_weight(make_args):
    """AdamW's as the weight; Adafactor's row and column as the axes they keep, or along fsdp where those are not sharded."""
    layout = Layout(_config("google/gemma-2b"), MeshSize(4, 2))
    weight = layout.partition("layers.gate", (18, 2048, 16_384))
    assert weight == ((), ("fsdp",), ("tp",))
    assert layout.state_partition("opt_state.stats.layers.gate.mu", (18, 2048, 16_384)) == weight
    assert layout.state_partition("opt_state.master.layers.gate", (18, 2048, 16_384)) == weight
    assert layout.state_partition("opt_state.stats.layers.gate.row", (18, 2048)) == ((), ("fsdp",))
    assert layout.state_partition("opt_state.stats.layers.gate.col", (18, 16_384)) == ((), ("tp",))
    assert layout.state_partition("opt_state.count", ()) == ()


@pytest.mark.parametrize("model", ["gemma-2b", "gemma-7b", "gemma-2-9b", "gemma-3-4b-pt"])
def test_fsdp_shards_the_mlp_by_its_columns_and_attention_by_its_first_axis(model: str) -> None:
    """Whatever axis is the longer one: what is gathered is gathered along its first axis, what is largest is not gathered."""
    config = config_from_hf(dict(KNOWN_CONFIGS[f"google/{model}"]))
    layout = Layout(config, MeshSize(fsdp=2, tp=1))
    width, ffn = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    assert layout.partition("layers.q", (2, width, queries)) == ((), ("fsdp",), ())
    assert layout.partition("layers.o", (2, queries, width)) == ((), ("fsdp",), ())
    assert layout.partition("layers.gate", (2, width, ffn)) == ((), (), ("fsdp",))
    assert layout.partition("layers.down", (2, ffn, width)) == ((), ("fsdp",), ())
