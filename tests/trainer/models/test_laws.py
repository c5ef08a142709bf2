"""Laws of every family's network: causality, packing, windows, caches, and that all ways of computing agree."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.model_config.values import FULL, SLIDING
from engine.trainer.models import config_from_hf, create, decoder, param_count
from engine.trainer.models.decoder import Decoder

Draw = Callable[..., tuple[jax.Array, jax.Array]]
Make = Callable[..., Decoder]


@pytest.fixture
def as_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer is compiled, not three: faster, and test_loop_and_unrolled_layers_agree shows it is the same."""
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)


@pytest.mark.usefixtures("as_a_loop")
def test_packed_logits_equal_numpys(
    make_model: Make, tokens_and_positions: Draw, reference: ModuleType, model_type: str
) -> None:
    """A packed row (two segments, restarted positions, padding) equals the f64 numpy network within 1e-5."""
    model = make_model(model_type=model_type)
    tokens, _ = tokens_and_positions(1, 11)
    positions = jnp.array([[0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 0]], jnp.int32)
    segments = jnp.array([[1, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0]], jnp.int32)
    ours = jax.jit(model.__call__)(tokens, positions=positions, segment_ids=segments)[0]
    rows = (np.asarray(part[0]) for part in (tokens, positions, segments))
    expected = reference.logits(model.config, model.weights(), *rows)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.usefixtures("as_a_loop")
def test_packed_rows_equal_rows_by_themselves(make_model: Make, tokens_and_positions: Draw, model_type: str) -> None:
    """A row's result is the same alone and packed behind another row, token by token."""
    model = make_model(model_type=model_type)
    tokens, positions = tokens_and_positions(1, 12)
    alone = jax.jit(model.__call__)
    first, second = (alone(part, positions=positions[:, :6]) for part in (tokens[:, :6], tokens[:, 6:]))
    restarted = jnp.concatenate([positions[:, :6], positions[:, :6]], axis=1)
    segments = jnp.repeat(jnp.array([[1, 2]], jnp.int32), 6, axis=1)
    packed = jax.jit(model.__call__)(tokens, positions=restarted, segment_ids=segments)
    np.testing.assert_allclose(packed, jnp.concatenate([first, second], axis=1), atol=5e-6)


def probe(model: Decoder, row: int, segments: jax.Array | None = None) -> jax.Array:
    """|d states[row] / d input embedding| summed over features, [T]: which tokens a position depends on."""
    tokens = jnp.arange(4, 12, dtype=jnp.int32)[None, :]  # distinct, so that each embedding row is one position
    positions = jnp.arange(8, dtype=jnp.int32)[None, :]
    weights = model.weights()

    def out(table: jax.Array) -> jax.Array:
        # The tied head must not be probed: the states before it are.
        changed = type(model)(model.config, weights | {"embed": table})
        return changed.hidden(tokens, positions=positions, segment_ids=segments)[0, row].sum()

    return jnp.abs(jax.jit(jax.grad(out))(weights["embed"]))[4:12].sum(axis=1)


@pytest.mark.usefixtures("as_a_loop")
def test_no_gradient_flows_from_the_future(make_model: Make, model_type: str) -> None:
    """A position depends on itself and the past: the gradient to later tokens is exactly 0."""
    influence = probe(make_model(model_type=model_type), 3)
    assert (influence[:4] > 0).all()
    assert (influence[4:] == 0).all()


@pytest.mark.usefixtures("as_a_loop")
def test_no_gradient_flows_between_segments(make_model: Make, model_type: str) -> None:
    """A packed row's tokens have exactly no influence on another's, nor has padding."""
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 0, 0]], jnp.int32)
    influence = probe(make_model(model_type=model_type), 5, segments)
    assert (influence[3:6] > 0).all()
    assert (influence[jnp.array([0, 1, 2, 6, 7])] == 0).all()


@pytest.mark.usefixtures("as_a_loop")
@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_a_window_limits_what_a_layer_sees(make_model: Make, model_type: str) -> None:
    """Two layers with a window of 3 depend on a token and exactly four before it; a layer without one on all, even beyond
    the model's context length: max_position_embeddings is not a hidden window."""
    keys = {"model_type": model_type, "sliding_window": 3, "num_hidden_layers": 2, "max_position_embeddings": 4}
    windowed = probe(make_model(layer_types=[SLIDING, SLIDING], **keys), 7)
    full = probe(make_model(layer_types=[SLIDING, FULL], **keys), 7)
    assert (windowed > 0).tolist() == [False] * 3 + [True] * 5
    assert (full > 0).all()


@pytest.mark.usefixtures("as_a_loop")
def test_cached_equals_uncached(make_model: Make, tokens_and_positions: Draw, model_type: str) -> None:
    """Prompt in one piece, then token by token, gives the logits of the entire row at once."""
    model = make_model(model_type=model_type)
    tokens, positions = tokens_and_positions(2, 12)
    whole = jax.jit(model.__call__)(tokens, positions=positions)
    step = jax.jit(model.extend)
    states, cache = step(tokens[:, :7], positions[:, :7], model.init_cache(2, 14))
    parts = [states]
    for t in range(7, 12):
        states, cache = step(tokens[:, t : t + 1], positions[:, t : t + 1], cache)
        parts.append(states)
    np.testing.assert_allclose(model.unembed(jnp.concatenate(parts, axis=1)), whole, atol=2e-5)


@pytest.mark.usefixtures("as_a_loop")
def test_rows_of_different_length_share_a_cache(make_model: Make, tokens_and_positions: Draw, model_type: str) -> None:
    """Right padding in the prompt has no effect: each row decodes as it would alone."""
    model = make_model(model_type=model_type)
    tokens, positions = tokens_and_positions(2, 8)
    lengths = jnp.array([3, 8], jnp.int32)
    step = jax.jit(model.extend)
    _, cache = step(tokens.at[0, 3:].set(0), positions, model.init_cache(2, 10))
    following = jnp.array([[50], [60]], jnp.int32)
    states, _ = step(following, lengths[:, None], cache)
    for row, length in enumerate((3, 8)):
        alone = jnp.concatenate([tokens[row : row + 1, :length], following[row : row + 1]], axis=1)
        expected = jax.jit(model.hidden)(alone, positions=jnp.arange(length + 1, dtype=jnp.int32)[None, :])
        np.testing.assert_allclose(states[row, 0], expected[0, -1], atol=2e-5)


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_what_has_left_the_window_no_longer_counts_in_the_cache(
    make_model: Make, tokens_and_positions: Draw, model_type: str
) -> None:
    """Slots before the window have no effect: the next state is the same to the bit; a slot inside changes it."""
    model = make_model(model_type=model_type, num_hidden_layers=1, layer_types=[SLIDING], sliding_window=3)
    tokens, positions = tokens_and_positions(1, 7)
    _, cache = model.extend(tokens[:, :6], positions[:, :6], model.init_cache(1, 8))
    last = (tokens[:, 6:], positions[:, 6:])

    step = jax.jit(model.extend)

    def disturbed(end: int) -> jax.Array:
        """The next state with other values in the slots before ``end``."""
        v = jax.tree.map(lambda block: block.at[:, :, :end].add(9.0), cache.v)  # [B, K, S, H]
        return step(*last, cache._replace(v=v))[0]

    states, outside, inside = (disturbed(end) for end in (0, 4, 5))
    assert jnp.array_equal(states, outside)
    assert not jnp.array_equal(states, inside)


def test_a_position_outside_the_cache_is_not_written(make_model: Make, tokens_and_positions: Draw) -> None:
    """Padding beyond the end does not change the cache; nothing wraps around or reaches the last slot."""
    model = make_model()
    extend = jax.jit(model.extend)
    tokens, positions = tokens_and_positions(1, 4)
    _, cache = extend(tokens, positions, model.init_cache(1, 4))
    for outside in (-1, 128):  # the smallest cache has 128 slots
        _, after = extend(tokens[:, :1], jnp.array([[outside]], jnp.int32), cache)
        assert all(map(jnp.array_equal, jax.tree.leaves(after), jax.tree.leaves(cache)))


@pytest.mark.usefixtures("as_a_loop")
def test_a_row_does_not_depend_on_the_others(make_model: Make, tokens_and_positions: Draw, model_type: str) -> None:
    """Changing the other rows of a batch changes nothing, to the bit."""
    model = make_model(model_type=model_type)
    tokens, positions = tokens_and_positions(4, 8)
    others = tokens.at[1:].set(tokens[1:][::-1] - 1)
    logits = jax.jit(model.__call__)
    one, two = (logits(part, positions=positions) for part in (tokens, others))
    assert jnp.array_equal(one[0], two[0])
    assert not jnp.array_equal(one[1], two[1])


def test_loop_and_unrolled_layers_agree(
    make_model: Make, tokens_and_positions: Draw, monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    """A scan over layers, and recomputation, change neither values nor gradients."""
    graph, state = nnx.split(make_model(model_type=model_type, num_hidden_layers=2))
    tokens, positions = tokens_and_positions(2, 8)

    def loss(state: Any, remat: str) -> jax.Array:
        return jnp.square(nnx.merge(graph, state).hidden(tokens, positions=positions, remat=remat)).mean()

    plain = jax.jit(jax.value_and_grad(lambda state: loss(state, "none")))(state)
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)
    # Recomputation inside the loop; the other policies: tests/trainer/test_memory_methods.py
    scanned = jax.jit(jax.value_and_grad(lambda state: loss(state, "block")))(state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, scanned)


def test_embedding_scale_is_rounded_to_the_compute_dtype(make_model: Make) -> None:
    """sqrt(3072) = 55.43 becomes 55.5 in bf16, as Hugging Face computes it."""
    model = make_model(hidden_size=3072, num_hidden_layers=1, param_dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)
    tokens = jnp.array([[7]], jnp.int32)
    row = model.weights()["embed"][7]
    assert jnp.array_equal(model.embed_tokens(tokens)[0], row * jnp.bfloat16(55.5))


def test_param_count_equals_the_arrays(make_model: Make, model_type: str) -> None:
    """The arithmetic equals the number of stored weights."""
    model = make_model(model_type=model_type)
    assert param_count(model.config) == sum(array.size for array in model.weights().values())


def test_equal_seeds_give_equal_weights(make_model: Make, model_type: str) -> None:
    """Creation is a pure function of configuration and seed; norms start at 0, the rest at the stated spread."""
    config = make_model(model_type=model_type, num_hidden_layers=2).config
    one, again, other = (create(config, seed=seed).weights() for seed in (5, 5, 6))
    for name, array in one.items():
        assert jnp.array_equal(array, again[name]), name
        if name.endswith("norm"):
            assert not array.any()
        else:
            assert not jnp.array_equal(array, other[name])
            assert float(array.std()) == pytest.approx(config.initializer_range, rel=0.15)


def test_a_config_read_from_a_file_finds_its_family(make_model: Make, model_type: str) -> None:
    """The mapping of to_hf gives the same family and the same values."""
    config = make_model(model_type=model_type).config
    assert config_from_hf(config.to_hf()) == config
