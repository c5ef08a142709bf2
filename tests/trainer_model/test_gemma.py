"""The whole network: against PyTorch, against numpy, and its laws."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.trainer.models import FAMILIES, config_from_hf, create, decoder, gemma, param_count
from engine.trainer.models.gemma import Gemma
from engine.trainer.weights.save import Tensors

Draw = Callable[..., tuple[jax.Array, jax.Array]]
Make = Callable[..., Gemma]


@pytest.fixture(scope="session")
def golden_model(golden: SimpleNamespace) -> Gemma:
    """Our network with the golden file's weights, put in place by hand: no loader between."""
    config = config_from_hf(golden.config)
    weights = {}
    for name, (stored, transposed) in gemma.HF_NAMES.items():
        if "{}" not in stored:
            weights[name] = jnp.asarray(golden.weights[stored])
            continue
        rows = [golden.weights[stored.format(i)] for i in range(config.num_hidden_layers)]
        weights[name] = jnp.stack([jnp.asarray(row.T if transposed else row) for row in rows])
    return Gemma(config, weights)


def mean_loss(model: Gemma, tokens: jax.Array) -> jax.Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)
    logits = model(tokens, positions=positions)[:, :-1]
    label = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=2)[:, :, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - label)


def test_logits_equal_pytorchs(golden: SimpleNamespace, golden_model: Gemma, tokens_and_positions: Draw) -> None:
    """transformers' GemmaForCausalLM and ours give the same logits within 1e-5 in f32."""
    _, positions = tokens_and_positions(*golden.tokens.shape)
    ours = golden_model(jnp.asarray(golden.tokens), positions=positions)
    np.testing.assert_allclose(ours, golden.logits, atol=1e-5, rtol=0)


def test_loss_and_gradients_equal_pytorchs(golden: SimpleNamespace, golden_model: Gemma) -> None:
    """Every weight's gradient equals PyTorch's within 1e-4, under Hugging Face's name and layout."""
    graph, state = nnx.split(golden_model)
    tokens = jnp.asarray(golden.tokens)
    loss, grads = jax.value_and_grad(lambda state: mean_loss(nnx.merge(graph, state), tokens))(state)
    assert float(loss) == pytest.approx(golden.loss, abs=1e-5)
    tensors = Tensors(nnx.merge(graph, grads), golden_model.config, np.dtype("float32"))
    ours = {slot.stored_name: tensors.fetch(slot, is_flax=False) for slot in tensors.slots}
    assert ours.keys() == golden.grads.keys()
    for name, expected in golden.grads.items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (4, 2), (4, 4)])
def test_packed_logits_equal_numpys(
    make_model: Make, tokens_and_positions: Draw, reference: SimpleNamespace, heads: int, kv_heads: int
) -> None:
    """A packed row (two segments, restarted positions, padding) equals the f64 numpy network within 1e-5."""
    model = make_model(num_attention_heads=heads, num_key_value_heads=kv_heads)
    tokens, _ = tokens_and_positions(1, 9)
    positions = jnp.array([[0, 1, 2, 3, 0, 1, 2, 0, 0]], jnp.int32)
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]], jnp.int32)
    ours = model(tokens, positions=positions, segment_ids=segments)[0]
    rows = (np.asarray(part[0]) for part in (tokens, positions, segments))
    expected = reference.logits(model.config, model.weights(), *rows)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-6)


def test_packed_rows_equal_rows_by_themselves(make_model: Make, tokens_and_positions: Draw) -> None:
    """What a row computes is the same alone and packed behind another."""
    model = make_model()
    tokens, positions = tokens_and_positions(1, 10)
    first, second = (model(part, positions=positions[:, :5]) for part in (tokens[:, :5], tokens[:, 5:]))
    restarted = jnp.concatenate([positions[:, :5], positions[:, :5]], axis=1)
    segments = jnp.repeat(jnp.array([[1, 2]], jnp.int32), 5, axis=1)
    packed = model(tokens, positions=restarted, segment_ids=segments)
    np.testing.assert_allclose(packed, jnp.concatenate([first, second], axis=1), atol=2e-6)


def probe(model: Gemma, row: int, segments: jax.Array | None) -> jax.Array:
    """|d logits[row] / d input embedding| summed over features, [T]: which tokens a position depends on."""
    tokens = jnp.arange(4, 12, dtype=jnp.int32)[None, :]  # distinct, so that each embedding row is one position
    positions = jnp.arange(8, dtype=jnp.int32)[None, :]
    weights = model.weights()

    def out(table: jax.Array) -> jax.Array:
        # The tied head must not be probed: the states before it are.
        changed = Gemma(model.config, weights | {"embed": table})
        return changed.hidden(tokens, positions=positions, segment_ids=segments)[0, row].sum()

    return jnp.abs(jax.grad(out)(weights["embed"]))[4:12].sum(axis=1)


def test_no_gradient_flows_from_the_future(make_model: Make) -> None:
    """A position depends on itself and the past: the gradient to later tokens is exactly 0."""
    influence = probe(make_model(), 3, None)
    assert (influence[:4] > 0).all()
    assert (influence[4:] == 0).all()


def test_no_gradient_flows_between_segments(make_model: Make) -> None:
    """A packed row's tokens have exactly no influence on another's, nor has padding."""
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 0, 0]], jnp.int32)
    influence = probe(make_model(), 5, segments)
    assert (influence[3:6] > 0).all()
    assert (influence[jnp.array([0, 1, 2, 6, 7])] == 0).all()


def test_cached_equals_uncached(make_model: Make, tokens_and_positions: Draw) -> None:
    """Prompt in one piece, then token by token, gives the logits of the whole row at once."""
    model = make_model()
    extend = jax.jit(model.extend)
    tokens, positions = tokens_and_positions(2, 12)
    whole = model(tokens, positions=positions)
    cache = model.init_cache(2, 14)
    states, cache = extend(tokens[:, :7], positions[:, :7], cache)
    parts = [states]
    for t in range(7, 12):
        states, cache = extend(tokens[:, t : t + 1], positions[:, t : t + 1], cache)
        parts.append(states)
    np.testing.assert_allclose(model.unembed(jnp.concatenate(parts, axis=1)), whole, atol=2e-5)


def test_rows_of_different_length_share_a_cache(make_model: Make, tokens_and_positions: Draw) -> None:
    """Right padding in the prompt leaves no trace: each row decodes as it would alone."""
    model = make_model()
    extend = jax.jit(model.extend)
    tokens, positions = tokens_and_positions(2, 8)
    lengths = jnp.array([3, 8], jnp.int32)
    _, cache = extend(tokens.at[0, 3:].set(0), positions, model.init_cache(2, 10))
    following = jnp.array([[50], [60]], jnp.int32)
    states, _ = extend(following, lengths[:, None], cache)
    for row, length in enumerate((3, 8)):
        alone = jnp.concatenate([tokens[row : row + 1, :length], following[row : row + 1]], axis=1)
        expected = model.hidden(alone, positions=jnp.arange(length + 1, dtype=jnp.int32)[None, :])
        np.testing.assert_allclose(states[row, 0], expected[0, -1], atol=2e-5)


def test_a_position_outside_the_cache_is_not_written(make_model: Make, tokens_and_positions: Draw) -> None:
    """Padding put past the end leaves the cache as it was; nothing wraps round or lands in the last slot."""
    model = make_model()
    extend = jax.jit(model.extend)
    tokens, positions = tokens_and_positions(1, 4)
    _, cache = extend(tokens, positions, model.init_cache(1, 4))
    for outside in (-1, 128):  # the smallest cache has 128 slots
        _, after = extend(tokens[:, :1], jnp.array([[outside]], jnp.int32), cache)
        assert all(map(jnp.array_equal, jax.tree.leaves(after), jax.tree.leaves(cache)))


def test_a_row_does_not_depend_on_the_others(make_model: Make, tokens_and_positions: Draw) -> None:
    """Changing the other rows of a batch changes nothing, to the bit."""
    model = make_model()
    tokens, positions = tokens_and_positions(4, 8)
    others = tokens.at[1:].set(tokens[1:][::-1] - 1)
    one, two = (jax.jit(model.__call__)(part, positions=positions) for part in (tokens, others))
    assert jnp.array_equal(one[0], two[0])
    assert not jnp.array_equal(one[1], two[1])


@pytest.mark.parametrize("remat", ["none", "dots", "block", "offload"])
def test_loop_and_unrolled_layers_agree(
    make_model: Make, tokens_and_positions: Draw, monkeypatch: pytest.MonkeyPatch, remat: str
) -> None:
    """A scan over layers, and recomputation, change neither values nor gradients."""
    graph, state = nnx.split(make_model())
    tokens, positions = tokens_and_positions(2, 8)

    def loss(state: Any, remat: str) -> jax.Array:
        return jnp.square(nnx.merge(graph, state).hidden(tokens, positions=positions, remat=remat)).mean()

    plain = jax.value_and_grad(loss)(state, "none")
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)
    scanned = jax.value_and_grad(loss)(state, remat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, scanned)


def test_bf16_drifts_within_its_bound(make_model: Make, tokens_and_positions: Draw) -> None:
    """bf16 compute stays within 4 % of the f32 logits' spread, and differs at all."""
    tokens, positions = tokens_and_positions(2, 16)
    exact = make_model()(tokens, positions=positions)
    rounded = make_model(param_dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)(tokens, positions=positions)
    drift = float(jnp.sqrt(jnp.mean(jnp.square(exact - rounded))) / jnp.std(exact))
    assert rounded.dtype == jnp.float32
    assert 1e-4 < drift < 0.04


def test_embedding_scale_is_rounded_to_the_compute_dtype(make_model: Make) -> None:
    """sqrt(3072) = 55.43 becomes 55.5 in bf16, as Hugging Face computes it."""
    model = make_model(hidden_size=3072, num_hidden_layers=1, param_dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)
    tokens = jnp.array([[7]], jnp.int32)
    row = model.weights()["embed"][7]
    assert jnp.array_equal(model.embed_tokens(tokens)[0], row * jnp.bfloat16(55.5))


def test_param_count_equals_the_arrays(make_model: Make) -> None:
    """The arithmetic equals the number of stored weights."""
    model = make_model()
    assert param_count(model.config) == sum(array.size for array in model.weights().values())


def test_param_count_of_gemma_2b() -> None:
    """Gemma 2B has 2,506,172,416 parameters."""
    config = config_from_hf(
        {
            "model_type": "gemma",
            "vocab_size": 256000,
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
        }
    )
    assert param_count(config) == 2_506_172_416


def test_equal_seeds_give_equal_weights(tiny_mapping: dict[str, Any]) -> None:
    """Creation is a pure function of configuration and seed; norms start at 0, the rest at the stated spread."""
    config = config_from_hf(tiny_mapping)
    one, again, other = (create(config, seed=seed).weights() for seed in (5, 5, 6))
    for name, array in one.items():
        assert jnp.array_equal(array, again[name]), name
        if name.endswith("norm"):
            assert not array.any()
        else:
            assert not jnp.array_equal(array, other[name])
            assert float(array.std()) == pytest.approx(config.initializer_range, rel=0.15)


def test_every_family_offers_what_the_house_needs() -> None:
    """A new family that forgets a part is told which."""
    for model_type, family in FAMILIES.items():
        for part in ("CONFIG", "MODEL", "HF_NAMES", "weight_shapes", "init_weights", "param_count"):
            assert hasattr(family, part), f"{model_type} lacks {part}"
