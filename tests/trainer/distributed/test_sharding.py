"""How weights lie on a mesh: one rule for every family, adapters and statistics; the table that people read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import pytest

from engine.preflight.analytic import KNOWN_CONFIGS
from engine.trainer.config.mesh import MeshSize
from engine.trainer.cost.price import abstract_state
from engine.trainer.distributed.sharding import Layout, sharding_table
from engine.trainer.models import config_from_hf

FAMILIES = ("google/gemma-2b", "google/gemma-7b", "google/gemma-2-2b", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt")
MESHES = [MeshSize(fsdp, tp) for fsdp in (1, 2, 4, 8) for tp in (1, 2, 4, 8, 3)]


def _config(name: str) -> Any:
    return config_from_hf({"model_type": "gemma", **KNOWN_CONFIGS[name]})


def test_the_table_of_gemma_2b_on_four_by_two(make_args):
    """The golden of the rule: V over all, heads and F over tp, D over fsdp, one kv head whole on every tp device."""
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
    assert table[3].note == "1 kv head: whole on every device of a tp group"
    assert [row.bytes_per_device for row in table[:3]] == [256_000 * 2048 // 4, 18 * 2048 // 2, 18 * 2048 * 2048 // 4]


def test_with_one_axis_every_leaf_is_cut_along_its_longest(make_args):
    """Without tp the rule is FSDP over the longest axis that divides; L is never cut."""
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


def test_an_adapter_lies_as_the_axis_it_shares(make_args):
    """q.b has q's heads, down.a has down's F; the rank is never cut."""
    table = sharding_table(_config("google/gemma-2b"), make_args(method="lora"), MeshSize(4, 2))
    found = {row.leaf: row.words for row in table if row.leaf.startswith("lora.")}
    assert (found["lora.q_a"], found["lora.q_b"]) == ("L D/4 R", "L R NH/2")
    assert (found["lora.down_a"], found["lora.down_b"]) == ("L F/2 R", "L R D/4")
    assert (found["lora.k_a"], found["lora.k_b"]) == ("L D/4 R", "L R KH/4")


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
    """Bytes of the table are those of the leaves of the very state that trains: nothing is forgotten, whatever is kept."""
    config, args = _config(name), make_args(**changes)
    small = replace(config, num_hidden_layers=2) if not hasattr(config, "layer_types") else config
    _, state = abstract_state(small, args, jax.devices("cpu")[0])
    for size in (MeshSize(8, 1), MeshSize(4, 2), MeshSize(1, 8)):
        layout, total = Layout(small, size), 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            shape = layout.share(layout.cut_in_state(name, leaf.shape), leaf.shape)
            total += math.prod(shape) * leaf.dtype.itemsize * (leaf.ndim > 0)
        table = sharding_table(small, args, size)
        assert sum(row.bytes_per_device + row.optimizer_bytes_per_device for row in table) == total


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
