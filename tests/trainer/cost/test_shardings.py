"""The table of shardings that people read: it shows the rule, and its bytes are those of the state that trains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import pytest

from engine.model_config.shapes import KNOWN_CONFIGS
from engine.trainer.config.mesh import MeshSize
from engine.trainer.cost.price import abstract_state
from engine.trainer.cost.shardings import sharding_table
from engine.trainer.distributed.sharding import Layout
from engine.trainer.models import config_from_hf

FAMILIES = ("google/gemma-2b", "google/gemma-7b", "google/gemma-2-2b", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt")


def _config(name: str) -> Any:
    return config_from_hf({"model_type": "gemma", **KNOWN_CONFIGS[name]})


def test_the_table_of_gemma_2b_on_four_by_two(make_args):
    """The golden of the rule: V over all, heads and F over tp, D over fsdp, one kv head replicated within a tp group."""
    table = sharding_table(
        _config("google/gemma-2b"), make_args(dtype="bfloat16", optimizer="adafactor"), MeshSize(4, 2)
    )
    assert {row.leaf: row.words for row in table} == {
        "embed": "V/8 D",
        "layers.attn_norm": "L D/4",
        "layers.q": "L D/4 NH/2",
        "layers.k": "L D/4 KH",
        "layers.v": "L D/4 KH",
        "layers.o": "L NH/2 D/4",
        "layers.mlp_norm": "L D/4",
        "layers.gate": "L D/4 F/2",
        "layers.up": "L D/4 F/2",
        "layers.down": "L F/2 D/4",
        "norm": "D/4",
    }
    assert {row.leaf for row in table if row.note} == {"layers.k", "layers.v"}
    assert table[3].note == "1 kv head: replicated within a tp group"
    assert [row.bytes_per_device for row in table[:3]] == [256_000 * 2048 // 4, 18 * 2048 // 2, 18 * 2048 * 2048 // 4]


def test_with_one_axis_every_leaf_is_sharded_along_its_longest(make_args):
    """Without tp the rule is FSDP over the longest axis that divides; L is never sharded."""
    table = sharding_table(_config("google/gemma-2b"), make_args(), MeshSize(8, 1))
    assert {row.leaf: row.words for row in table if row.leaf.startswith("layers.")} == {
        "layers.attn_norm": "L D/8",
        "layers.q": "L D/8 NH",
        "layers.k": "L D/8 KH",
        "layers.v": "L D/8 KH",
        "layers.o": "L NH/8 D",
        "layers.mlp_norm": "L D/8",
        "layers.gate": "L D F/8",
        "layers.up": "L D F/8",
        "layers.down": "L F/8 D",
    }


def test_an_adapter_is_sharded_as_the_axis_it_shares(make_args):
    """q.b has q's heads, down.a has down's F; the rank is never sharded."""
    table = sharding_table(_config("google/gemma-2b"), make_args(method="lora"), MeshSize(4, 2))
    words = {row.leaf: row.words for row in table if row.leaf.startswith("lora.")}
    assert (words["lora.q_a"], words["lora.q_b"]) == ("L D/4 R", "L R NH/2")
    assert (words["lora.down_a"], words["lora.down_b"]) == ("L F/2 R", "L R D/4")
    assert (words["lora.k_a"], words["lora.k_b"]) == ("L D/4 R", "L R KH/4")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adafactor", "dtype": "bfloat16"},
        {"dtype": "bfloat16", "master_weights": True},
        {"method": "lora"},
    ],
)
def test_the_table_adds_up_to_the_state(make_args, name, changes):
    """Bytes of the table are those of the leaves of the very state that trains: nothing is forgotten, whatever the optimizer keeps."""
    config, args = _config(name), make_args(**changes)
    small = replace(config, num_hidden_layers=2) if not hasattr(config, "layer_types") else config
    _, state = abstract_state(small, args, jax.devices("cpu")[0])
    for size in (MeshSize(8, 1), MeshSize(4, 2), MeshSize(1, 8)):
        layout, total = Layout(small, size), 0
        kept = {part: leaves for part, leaves in state.items() if part != "hyperparameters"}  # a few scalars
        for path, leaf in jax.tree_util.tree_leaves_with_path(kept):
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            shape = layout.shard_shape(layout.state_partition(name, leaf.shape), leaf.shape)
            total += math.prod(shape) * leaf.dtype.itemsize * (leaf.ndim > 0)
        table = sharding_table(small, args, size)
        assert sum(row.bytes_per_device + row.optimizer_bytes_per_device for row in table) == total
