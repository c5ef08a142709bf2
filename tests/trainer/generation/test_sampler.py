"""Generation: PyTorch's tokens, the law of independence, the families, two programs for all, limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from engine.errors import InputInvalid
from engine.trainer.generation.sampler import Sampler, generate
from engine.trainer.generation.sampling import Sampling
from engine.trainer.generation.sequences import GeneratedSequence
from engine.trainer.models import config_from_hf, create
from engine.trainer.models.decoder import Decoder
from engine.trainer.models.gemma import Gemma

Make = Callable[..., Gemma]
Prompts = list[list[int]]
OPTIONS = {"max_new_tokens": 5, "ends": {}, "pad_id": 0, "batch_size": 2}
SAMPLED = {"sampling": Sampling(temperature=0.8, top_k=50, top_p=0.9), "seed": 7}


@pytest.fixture(scope="session")
def model(make_model: Make) -> Gemma:
    return make_model()


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """Eleven prompts of 1 to 41 tokens: some are read in two chunks."""
    draws = random.Random(0)
    return [[2, *(draws.randrange(4, 260) for _ in range(4 * index))] for index in range(11)]


@pytest.fixture(scope="session")
def answers(model: Gemma, prompts: Prompts) -> list[GeneratedSequence]:
    return generate(model, prompts, **OPTIONS)


@pytest.fixture(scope="session")
def names(prompts: Prompts) -> list[str]:
    return [f"item-{index}" for index in range(len(prompts))]


def bare(generations: list[GeneratedSequence]) -> list[tuple[list[int], str, int, int]]:
    """The answers without their times."""
    return [(one.ids, one.finish_reason, one.prompt_tokens, one.new_tokens) for one in generations]


def test_greedy_tokens_equal_pytorchs(golden: SimpleNamespace, golden_model: Callable[..., Decoder]) -> None:
    """Prompts of different length in one batch give PyTorch's tokens for each alone without a cache."""
    length = len(golden.greedy[0])
    found = generate(golden_model(), golden.prompts, max_new_tokens=length, ends={}, pad_id=0, batch_size=4)
    assert [one.ids for one in found] == golden.greedy


def test_each_token_is_the_argmax_of_the_full_row(
    model: Gemma, prompts: Prompts, answers: list[GeneratedSequence]
) -> None:
    """The cached loop gives the tokens of full forward passes over prompt and answer."""
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.ids == uncached(model, prompt, 5)


def uncached(model: Any, prompt: list[int], length: int) -> list[int]:
    """Greedy tokens by full forward passes over a row padded to one length."""
    ids, size = list(prompt), model.config.max_position_embeddings
    for _ in range(length):
        row = jnp.array([ids + [0] * (size - len(ids))], jnp.int32)
        ids.append(int(jnp.argmax(whole(model, row)[0, len(ids) - 1])))
    return ids[len(prompt) :]


@nnx.jit
def whole(model: Any, row: jax.Array) -> jax.Array:
    """Logits of a padded row."""
    return model(row, positions=jnp.arange(row.shape[1], dtype=jnp.int32)[None, :])


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_families_with_windows_generate_as_without_a_cache(
    tiny_mapping: dict[str, Any], prompts: Prompts, family: str
) -> None:
    """Windows shorter than the prompt, soft caps and both ropes included; one answer crosses from block to block."""
    keys = {"model_type": family, "max_position_embeddings": 160, "num_hidden_layers": 2, "sliding_window": 9}
    keys |= {"query_pre_attn_scalar": 6, "layer_types": ["sliding_attention", "full_attention"]}
    model = create(config_from_hf(tiny_mapping | keys), seed=3)
    long = [2, *range(4, 126)]  # 123 tokens: the answer extends beyond the first block's 128
    rows = [prompts[3], long, prompts[10]]
    found = generate(model, rows, max_new_tokens=9, ends={}, pad_id=0, batch_size=3)
    assert [one.ids for one in found] == [uncached(model, row, 9) for row in rows]


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("order", ["alone", "reversed", "half"])
def test_a_row_does_not_depend_on_the_others(
    model: Gemma, prompts: Prompts, names: list[str], order: str, sampled: bool
) -> None:
    """Alone, in reverse order, or without half of the others: each row's tokens are the same, drawn ones as well."""
    options = OPTIONS | (SAMPLED if sampled else {})
    whole = generate(model, prompts, names=names, **options)
    chosen = {"alone": [4], "reversed": list(range(10, -1, -1)), "half": [1, 3, 5, 7, 9]}[order]
    found = generate(model, [prompts[i] for i in chosen], names=[names[i] for i in chosen], **options)
    assert bare(found) == bare([whole[index] for index in chosen])


def test_a_longer_row_beside_it_changes_nothing_of_a_row(make_model: Make) -> None:
    """Logits in a cache of one block and of three, beside a row that has reached the third: the same to the bit."""
    model = make_model(max_position_embeddings=512)
    tokens = jax.random.randint(jax.random.key(0), (2, 300), 4, 260, dtype=jnp.int32)
    extend = jax.jit(model.extend)

    def last(size: int, other: int) -> np.ndarray:
        cache = model.init_cache(2, size)
        for start in range(0, 300, 50):
            at = jnp.arange(start, start + 50, dtype=jnp.int32)[None, :]
            at = jnp.concatenate([jnp.where(at < 100, at, -1), jnp.where(at < other, at, -1)])
            states, cache = extend(tokens[:, start : start + 50], at, cache)
            if start == 50:
                kept = np.asarray(states[0])
        _, cache = extend(tokens[:, :1], jnp.array([[100], [other]], jnp.int32), cache)
        states, _ = extend(tokens[:, 1:2], jnp.array([[101], [other + 1]], jnp.int32), cache)
        return np.concatenate([kept, np.asarray(states[0])])

    alone = last(100, 20)
    assert np.array_equal(alone, last(400, 300))
    assert np.array_equal(alone, last(400, 20))


def test_two_programs_do_it_all(model: Gemma, prompts: Prompts) -> None:
    """Eleven prompts of all lengths compile one program for prefill and one for decoding; a second call, another
    limit or another end compile nothing."""
    compiled: list[str] = []

    def hear(name: str, *_: float, **__: object) -> None:
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    list(Sampler(model, **OPTIONS).batches(prompts))  # compiles what jax itself compiles once
    sampler = Sampler(model, **(OPTIONS | {"batch_size": 3}))
    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        list(sampler.batches(prompts))
        assert len(compiled) == 2
        list(sampler.batches(prompts[::-1]))
        list(Sampler(model, **(OPTIONS | {"batch_size": 3, "max_new_tokens": 4, "ends": {7: "eos"}})).batches(prompts))
        assert len(compiled) == 2
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    assert sorted(sampler.compile_seconds) == ["decode", "prefill"]


def test_the_cache_is_donated(model: Gemma, prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call donates its cache's memory to the next: the buffers of the first are deleted after it."""
    caches = []
    make = type(model).init_cache
    monkeypatch.setattr(type(model), "init_cache", lambda *args: caches.append(make(*args)) or caches[0])
    generate(model, prompts[:2], **OPTIONS)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(caches))


def test_a_slot_that_is_free_takes_the_next_prompt(
    model: Gemma, prompts: Prompts, answers: list[GeneratedSequence]
) -> None:
    """A row that ends at once frees its slot while its neighbour continues; nothing else changes."""
    eos = answers[0].ids[0]
    options = OPTIONS | {"ends": {eos: "eos"}, "max_new_tokens": 20}
    chosen = [0, *(index for index, one in enumerate(answers) if eos not in one.ids)][:3]
    alone = [generate(model, [prompts[i]], **options)[0] for i in chosen]
    heard: list[list[int]] = []
    found = generate(model, [prompts[i] for i in chosen], on_batch=lambda indices, _: heard.append(indices), **options)
    assert found[0].new_tokens == 1
    assert heard[0] == [0]
    assert bare(found) == bare(alone)


def test_an_answer_ends_at_eos(model: Gemma, prompts: Prompts, answers: list[GeneratedSequence]) -> None:
    """The EOS is counted and not returned; rows that have ended do not affect the others."""
    eos = answers[5].ids[2]
    place = answers[5].ids.index(eos)
    found = generate(model, prompts, **(OPTIONS | {"ends": {eos: "end_of_turn"}}))
    assert (found[5].ids, found[5].finish_reason) == (answers[5].ids[:place], "end_of_turn")
    for one, full in zip(found, answers, strict=True):
        cut = full.ids.index(eos) if eos in full.ids else len(full.ids)
        assert one.ids == full.ids[:cut]
        assert one.finish_reason == ("end_of_turn" if eos in full.ids else "length")
        assert one.new_tokens == len(one.ids) + (one.finish_reason == "end_of_turn")


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_is_exact(model: Gemma, prompts: Prompts, answers: list[GeneratedSequence], limit: int) -> None:
    """max_new_tokens 1 needs no decoding step; answers are prefixes of longer ones."""
    found = generate(model, prompts[:4], **(OPTIONS | {"max_new_tokens": limit}))
    assert [one.ids for one in found] == [one.ids[:limit] for one in answers[:4]]
    assert {one.finish_reason for one in found} == {"length"}


def test_a_context_filled_to_the_brim_works(model: Gemma) -> None:
    """59 prompt tokens and 5 new ones are exactly the context of 64; one more is M501 naming the item."""
    brim = [2] * 59
    assert len(generate(model, [brim], **OPTIONS)[0].ids) == 5
    with pytest.raises(InputInvalid, match=r'M501.*item "long".*60 tokens[\s\S]*at most 4'):
        generate(model, [[2], [*brim, 2]], names=["short", "long"], **OPTIONS)


def test_every_bad_prompt_is_named(model: Gemma) -> None:
    """Empty and overlong prompts are reported together, before anything is generated."""
    with pytest.raises(InputInvalid) as caught:
        generate(model, [[], [2], [2] * 100], names=["a", "b", "c"], **OPTIONS)
    assert [one.where.file for one in caught.value.diagnostics if one.where] == ["a", "c"]


def test_rows_are_told_as_they_finish(model: Gemma, prompts: Prompts, answers: list[GeneratedSequence]) -> None:
    """on_batch gets every index once, short prompts first, at most batch_size at a time."""
    heard: list[tuple[list[int], list[GeneratedSequence]]] = []
    found = generate(model, prompts, on_batch=lambda *batch: heard.append(batch), **OPTIONS)
    assert [indices for indices, _ in heard] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]]
    assert bare(found) == bare(answers)


def test_no_prompts_no_work(model: Gemma) -> None:
    """An empty list is an empty answer."""
    assert generate(model, [], **OPTIONS) == []


def test_bf16_generates(make_model: Make, prompts: Prompts) -> None:
    """The cache and the loop keep their dtypes in bf16."""
    model = make_model(param_dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)
    assert all(len(one.ids) <= 5 for one in generate(model, prompts[:2], **OPTIONS))
