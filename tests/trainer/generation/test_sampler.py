"""Generation: PyTorch's tokens, the law of independence, the families, two programs for all, limits, shared beginnings."""

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
from engine.trainer.generation import prefill
from engine.trainer.generation.prefill import PromptReader
from engine.trainer.generation.sampler import Sampler, generate, matrices_of
from engine.trainer.generation.sampling import Sampling
from engine.trainer.generation.sequences import GeneratedSequence, SequenceInProgress
from engine.trainer.models import config_from_hf, create
from engine.trainer.models.decoder import Decoder
from engine.trainer.models.gemma import Gemma
from engine.trainer.ops.matmul import MatmulRule, matmul_rule

Make = Callable[..., Gemma]
Prompts = list[list[int]]
OPTIONS = {"max_new_tokens": 5, "ends": {}, "pad_id": 0, "batch_size": 2}
SAMPLED = {"sampling": Sampling(temperature=0.8, top_k=50, top_p=0.9), "seed": 7}


@pytest.fixture(scope="session")
def model(make_model: Make) -> Gemma:
    return make_model()


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """Eleven prompts of 1 to 41 tokens: some are read in three pieces."""
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
    model.init_cache(3, 46)
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
    """Answers are prefixes of longer ones."""
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


# --- prompts that share a beginning ---


@pytest.fixture(scope="session")
def few_shot() -> Prompts:
    """Nine prompts of two groups with beginnings of 35 and 20 tokens, and two that share nothing."""
    draws = random.Random(1)
    tokens = lambda n: [draws.randrange(4, 260) for _ in range(n)]  # noqa: E731
    first, second = [2, *tokens(34)], [2, *tokens(19)]
    groups = [[*(first if index % 2 else second), *tokens(index + 1)] for index in range(9)]
    return [*groups, [2, *tokens(30)], [2]]


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("slots", [1, 4])
def test_a_shared_beginning_changes_no_answer(
    model: Gemma, few_shot: Prompts, slots: int, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once and copied, each row's tokens are those of a run without copies, and of the row without the others."""
    options = OPTIONS | {"batch_size": slots, "max_new_tokens": 4} | (SAMPLED if sampled else {})
    names = [f"item-{index}" for index in range(len(few_shot))]
    shared = generate(model, few_shot, names=names, **options)
    some = [6, 1, 9]
    alone = generate(model, [few_shot[i] for i in some], names=[names[i] for i in some], **options)
    assert bare(alone) == bare([shared[i] for i in some])
    monkeypatch.setattr(PromptReader, "_find_source", lambda *_: None)
    monkeypatch.setattr(prefill, "_common", lambda held, tokens: np.zeros(len(held), np.int64))
    assert bare(generate(model, few_shot, names=names, **options)) == bare(shared)


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text"])
def test_what_is_copied_is_what_would_be_read(tiny_mapping: dict[str, Any], few_shot: Prompts, family: str) -> None:
    """Keys and values of every prompt, to the bit: read in a call with others, in calls of its own, or copied."""
    keys = {"model_type": family, "max_position_embeddings": 300, "num_hidden_layers": 2}
    if family != "gemma":
        keys |= {"sliding_window": 9, "query_pre_attn_scalar": 6}
        keys |= {"layer_types": ["sliding_attention", "full_attention"]}
    model = create(config_from_hf(tiny_mapping | keys), seed=3)
    prompts = [[*few_shot[0], *range(4, 144)], [*few_shot[0], *range(4, 140), 7, 8], *few_shot[:3]]
    sampler = Sampler(model, **(OPTIONS | {"batch_size": 5}))

    def held(chosen: list[int]) -> list[list[np.ndarray]]:
        cache, rows = model.init_cache(5, 200), {}
        for slot, index in enumerate(chosen):
            rows[slot] = SequenceInProgress(index, prompts[index], np.zeros(2, np.uint32))
        cache = sampler._read_prompts(cache, rows, PromptReader(5, 200, sampler._pieces))
        keys = [np.concatenate(list(layer), axis=-1) for layer in cache.k]
        values = [np.concatenate(list(layer), axis=-2) for layer in cache.v]
        return [
            [array for k, v in zip(keys, values, strict=True) for array in (k[slot][..., :n], v[slot][..., :n, :])]
            for slot, n in ((slot, len(prompts[index]) - 1) for slot, index in enumerate(chosen))
        ]

    together = held([4, 1, 0, 3, 2])
    assert "copy" in sampler.compile_seconds
    for slot, index in enumerate([4, 1, 0, 3, 2]):
        for one, other in zip(together[slot], held([index])[0], strict=True):
            assert np.array_equal(one, other)


# --- matrices of fewer bits ---


@pytest.mark.parametrize(("weights", "bound"), [("bfloat16", 0.01), ("int8", 0.03)])
def test_logits_with_fewer_bits_are_near(
    tiny_mapping: dict[str, Any], prompts: Prompts, weights: str, bound: float
) -> None:
    """The error of the logits, root mean square, is below ``bound`` of theirs, for weights of the size that Gemma begins with
    (the fixtures' are 17 times as large, so that an error grows from layer to layer); matrices take half, or a quarter."""
    keys = {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.02}
    model = create(config_from_hf(tiny_mapping | keys), seed=0)
    tokens = jnp.asarray([prompts[-1]], jnp.int32)
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :]

    def logits(weights: str) -> tuple[np.ndarray, int]:
        sampler = Sampler(model, **OPTIONS, weights=weights)
        assert sampler.weights_dtype == ("float32" if weights == "auto" else weights)
        shell = sampler._network.shell(sampler._weights)
        states, _ = shell.extend(tokens, positions, shell.init_cache(1, 64), weights=sampler._weights["layers"])
        n_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(sampler._weights))
        return np.asarray(shell.unembed(states)), n_bytes

    (exact, wide), (found, narrow) = logits("auto"), logits(weights)
    assert np.square(found - exact).mean() <= bound**2 * np.square(exact).mean()
    assert narrow < wide * (0.53 if weights == "bfloat16" else 0.30)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_with_fewer_bits_a_row_does_not_depend_on_the_others(model: Gemma, few_shot: Prompts, weights: str) -> None:
    """In reverse order and without half of the others: the same tokens."""
    whole = generate(model, few_shot, **OPTIONS, weights=weights)
    chosen = [9, 6, 3, 0]
    assert bare(generate(model, [few_shot[i] for i in chosen], **OPTIONS, weights=weights)) == bare(
        [whole[i] for i in chosen]
    )


def test_how_matrices_are_held_and_multiplied() -> None:
    """ "auto" as the model's dtype says; bfloat16 beside float32 activations is multiplied in what the device has."""
    device = jax.devices("cpu")[0]
    assert matrices_of("auto", "float32", device) == ("float32", None)
    native = matmul_rule("auto", "bfloat16", device)
    assert matrices_of("auto", "bfloat16", device) == ("bfloat16", native)
    assert matrices_of("bfloat16", "float32", device) == ("bfloat16", native)
    assert matrices_of("bfloat16", "bfloat16", device) == ("bfloat16", native)
    assert matrices_of("int8", "float32", device) == ("int8", None)
    tpu = SimpleNamespace(platform="tpu")
    assert matrices_of("auto", "bfloat16", tpu) == ("bfloat16", None)
    assert matrices_of("bfloat16", "float32", tpu) == ("bfloat16", MatmulRule("bfloat16"))
