"""Laws of reading a Flax variation: what our own writer puts into the einsum layout comes back bit for bit, with equal logits."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from engine.errors import InputInvalid
from engine.model_config import config_from_hf
from engine.model_config.shapes import KNOWN_CONFIGS
from engine.trainer.models import family_of
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import filling, load_folder, model_folder
from engine.trainer.weights.flax_variation import derived_config
from tests.fixtures.flax_variation import (
    EXTRA_ROWS,
    einsum_tree,
    nested,
    sentencepiece_model,
    write_checkpoint,
    write_variation,
)

SIZES = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 6,
         "max_position_embeddings": 64}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "num_hidden_layers": 11},  # two digits: 10 comes after 9
}
HEADS = {"multi-query": (4, 1), "grouped": (4, 2), "fused": (4, 4)}


@functools.cache
def model_of(family: str, heads: str, dtype: str = "bfloat16", vocab_size: int = 260) -> Any:
    """Weights drawn by numpy: nothing is compiled."""
    queries, keys = HEADS[heads]
    config = config_from_hf({**SIZES, **FAMILIES[family], "model_type": family, "num_attention_heads": queries,
                             "num_key_value_heads": keys, "vocab_size": vocab_size})  # fmt: skip
    draw = np.random.default_rng(3)
    shapes = family_of(config).weight_shapes(config)
    weights = {name: jnp.asarray(0.1 * draw.normal(size=shape), dtype) for name, shape in shapes.items()}
    return family_of(config).MODEL(config, weights, compute_dtype=jnp.float32)


def load(folder: Path, **keys: Any) -> tuple[Any, Any, int]:
    with model_folder(folder) as readable:
        model, config, _ = load_folder(readable.path, **keys)
        return model, config, readable.cut_rows


def same_bits(ours: Any, theirs: Any) -> None:
    assert ours.weights().keys() == theirs.weights().keys()
    for name, array in ours.weights().items():
        other = theirs.weights()[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        assert np.array_equal(np.asarray(array), np.asarray(other)), name


@pytest.mark.parametrize(
    ("family", "heads", "form", "turned"),
    [("gemma", "multi-query", "ocdbt", False), ("gemma", "fused", "plain", False), ("gemma2", "grouped", "zarr3", False),
     ("gemma2", "grouped", "ocdbt", True), ("gemma3_text", "multi-query", "ocdbt", True), ("gemma3_text", "fused", "plain", True)],
)  # fmt: skip
def test_what_is_written_in_einsums_is_read_bit_for_bit(
    tmp_path: Path, family: str, heads: str, form: str, turned: bool
) -> None:
    """Every family, separate and fused heads, every layout of orbax, gating matrices both ways; the logits are equal too."""
    model = model_of(family, heads)
    write_variation(tmp_path, model, form=form, turned=turned, with_config=family != "gemma")
    build_chars().save(tmp_path)
    loaded, config, cut = load(tmp_path, param_dtype="bfloat16", compute_dtype="float32")
    assert (cut, config.vocab_size, config.MODEL_TYPE) == (EXTRA_ROWS, 260, family)
    same_bits(model, loaded)
    tokens = jnp.asarray([[2, 70, 80, 90, 100, 110, 9, 12, 60, 61]], jnp.int32)
    positions = jnp.arange(10, dtype=jnp.int32)[None]
    assert jnp.array_equal(model(tokens, positions=positions), loaded(tokens, positions=positions))


def test_a_sentencepiece_model_alone_is_the_tokenizer(tmp_path: Path) -> None:
    """As Kaggle has it: no config.json, no tokenizer.json, no settings; the vocabulary says which rows are read, and what is exported has a tokenizer."""
    model = model_of("gemma", "multi-query", vocab_size=340)
    write_variation(tmp_path, model)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    with model_folder(tmp_path) as readable:
        loaded, config, tokenizer = load_folder(readable.path, param_dtype="bfloat16")
    assert (config.vocab_size, readable.cut_rows, tokenizer.vocab_size) == (340, EXTRA_ROWS, 340)
    same_bits(model, loaded)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (2, 1, 0)
    assert tokenizer.encode("A man has 12 nails?") == theirs.encode("A man has 12 nails?")
    tokenizer.save(tmp_path / "exported")
    assert {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"} <= {
        path.name for path in (tmp_path / "exported").iterdir()
    }


def test_nested_keys_are_the_same_weights(tmp_path: Path) -> None:
    """Trees of later releases have a mapping for each part of a key, and matrices without "w"."""
    model = model_of("gemma", "multi-query")
    write_checkpoint(tmp_path / "micro", nested(einsum_tree(model)))
    build_chars().save(tmp_path)
    same_bits(model, load(tmp_path, param_dtype="bfloat16")[0])


def test_rows_come_in_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that do not divide a head, shards over the rows and over the columns: the same bits."""
    model = model_of("gemma2", "grouped")
    write_variation(tmp_path, model, with_config=True)
    build_chars().save(tmp_path)
    monkeypatch.setattr(filling, "PIECE_BYTES", 5 * 16 * 2)
    same_bits(model, load(tmp_path, param_dtype="bfloat16")[0])


@pytest.mark.parametrize("name", [name for name in KNOWN_CONFIGS if "-it" not in name])
def test_the_configuration_of_every_published_size_follows_from_its_shapes(name: str) -> None:
    """Family, sizes and, by its size, what no shape says."""
    known = dict(KNOWN_CONFIGS[name])
    width, heads, keys, head = (
        known[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    )
    shapes: dict[str, tuple[int, ...]] = {"embedder/input_embedding": (known["vocab_size"] + 128, width)}
    for layer in range(known["num_hidden_layers"]):
        at = f"layer_{layer}"
        if heads == keys:
            shapes[f"{at}/attn/qkv_einsum/w"] = (3, heads, width, head)
        else:
            shapes |= {f"{at}/attn/q_einsum/w": (heads, width, head), f"{at}/attn/kv_einsum/w": (2, keys, width, head)}
        shapes[f"{at}/mlp/gating_einsum/w"] = (2, known["intermediate_size"], width)
        shapes |= {f"{at}/post_ffw_norm/scale": (width,)} if known["model_type"] != "gemma" else {}
        shapes |= {f"{at}/attn/_query_norm/scale": (head,)} if known["model_type"] == "gemma3_text" else {}
    derived = derived_config(shapes, known["vocab_size"], Path("2b"))
    assert {key: derived[key] for key in known} == known
    config_from_hf(derived)  # every key is one that the family reads
    assert (derived["model_type"] == "gemma") == ("sliding_window" not in derived)


def test_a_size_that_is_not_published_needs_its_config(tmp_path: Path) -> None:
    """M114: no shape says the window of a Gemma 2 or 3."""
    write_variation(tmp_path, model_of("gemma2", "grouped"))
    build_chars().save(tmp_path)
    with pytest.raises(InputInvalid, match="no gemma2 of 2 layers and width 16 is published") as caught:
        load(tmp_path)
    assert caught.value.code == "M114"
    assert "put its config.json" in str(caught.value.diagnostics[0].hint)


def test_another_checkpoint_is_not_a_gemma(tmp_path: Path) -> None:
    """M114 for a tree of something else, M208 for two of them."""
    write_checkpoint(tmp_path / "a", {"step": np.ones(3, np.float32)})
    build_chars().save(tmp_path)
    with pytest.raises(InputInvalid, match="it is not of a Gemma in the Flax variation's layout"):
        load(tmp_path)
    write_checkpoint(tmp_path / "b", {"step": np.ones(3, np.float32)})
    with pytest.raises(InputInvalid, match="several checkpoints: a, b") as caught:
        load(tmp_path)
    assert caught.value.code == "M208"


def test_every_array_must_match_a_parameter(tmp_path: Path) -> None:
    """M202 names what is there and what is not; images are told, and not an error."""
    tree = einsum_tree(model_of("gemma", "multi-query"))
    del tree["transformer/layer_1/mlp/linear"]
    tree["transformer/layer_1/attn/bias"] = {"w": np.ones(3, np.float32)}
    tree["vision_encoder/siglip/layer_0"] = {"w": np.ones(3, np.float32)}
    write_checkpoint(tmp_path / "micro", tree)
    build_chars().save(tmp_path)
    with pytest.raises(InputInvalid) as caught:
        load(tmp_path)
    said = {one.where.path for one in caught.value.diagnostics if one.where}
    assert said == {"layer_1/attn/bias/w", "model.layers.1.mlp.down_proj.weight"}


def test_damage_is_named_with_the_weight(tmp_path: Path) -> None:
    """M205: a chunk that was cut short, in a folder for each array."""
    write_variation(tmp_path, model_of("gemma", "multi-query"), form="plain")
    build_chars().save(tmp_path)
    chunk = next((tmp_path / "micro").glob("transformer/layer_1/attn/q_einsum.w/0*"))
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(InputInvalid) as caught:
        load(tmp_path)
    assert caught.value.code == "M205"
    assert "model.layers.1.self_attn.q_proj.weight" in str(caught.value)


def test_a_folder_with_weights_of_its_own_is_itself(tmp_path: Path) -> None:
    """A folder of Hugging Face's kind is not touched, whatever lies beside its files."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "checkpoint").touch()
    with model_folder(tmp_path) as readable:
        assert (readable.path, readable.cut_rows) == (tmp_path, 0)


def test_sharded_over_devices(tmp_path: Path) -> None:
    """A leaf's shards on one device by a sharding are the same bits."""
    model = model_of("gemma", "multi-query")
    write_variation(tmp_path, model)
    build_chars().save(tmp_path)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    same_bits(model, load(tmp_path, param_dtype="bfloat16", sharding_of=lambda *_: device)[0])


@pytest.mark.parametrize("heads", ["multi-query", "grouped", "fused"])
def test_the_products_are_those_of_the_einsums(tmp_path: Path, heads: str) -> None:
    """What the layout's own equations give (queries BTD,NDH->BTNH; keys and values BSD,CKDH->CBSKH; output BTNH,NHD->BTD; gate first, then up)."""
    model = model_of("gemma", heads, "float32")
    write_variation(tmp_path, model)
    build_chars().save(tmp_path)
    loaded = {name: np.asarray(array)[1] for name, array in load(tmp_path)[0].weights().items() if name[:6] == "layers"}
    tree = {name.split("layer_1/")[1]: leaf for name, leaf in einsum_tree(model).items() if "layer_1/" in name}
    queries, keys = HEADS[heads]
    x = np.random.default_rng(1).normal(size=(2, 3, 16)).astype(np.float32)
    if heads == "fused":
        q, k, v = np.einsum("BSD,CKDH->CBSKH", x, tree["attn/qkv_einsum"]["w"])
    else:
        q = np.einsum("BTD,NDH->BTNH", x, tree["attn/q_einsum"]["w"])
        k, v = np.einsum("BSD,CKDH->CBSKH", x, tree["attn/kv_einsum"]["w"])
    for theirs, name, count in ((q, "q", queries), (k, "k", keys), (v, "v", keys)):
        np.testing.assert_allclose((x @ loaded[f"layers.{name}"]).reshape(2, 3, count, 6), theirs, rtol=1e-5, atol=1e-6)
    mixed = np.einsum("BTNH,NHD->BTD", q, tree["attn/attn_vec_einsum"]["w"])
    np.testing.assert_allclose(q.reshape(2, 3, -1) @ loaded["layers.o"], mixed, rtol=1e-4, atol=1e-6)
    gate, up = np.einsum("BTD,CDF->CBTF", x, tree["mlp/gating_einsum"]["w"])
    np.testing.assert_allclose(x @ loaded["layers.gate"], gate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x @ loaded["layers.up"], up, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gate @ loaded["layers.down"], gate @ tree["mlp/linear"]["w"], rtol=1e-5, atol=1e-6)
