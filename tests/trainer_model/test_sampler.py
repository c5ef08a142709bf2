"""Generation: PyTorch's tokens, the law of independence, one program per bucket, limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.errors import InputInvalid
from engine.trainer.models.decoder import Decoder
from engine.trainer.models.gemma import Gemma
from engine.trainer.sampler import Generation, Sampler, bucket_of, generate

Make = Callable[..., Gemma]
Prompts = list[list[int]]
OPTIONS = {"max_new_tokens": 5, "eos_id": 1, "pad_id": 0, "batch_size": 2}


@pytest.fixture(scope="session")
def model(make_model: Make) -> Gemma:
    return make_model()


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """Eleven prompts of 1 to 31 tokens: two buckets, the last batch not full."""
    draws = random.Random(0)
    return [[2, *(draws.randrange(4, 260) for _ in range(3 * index))] for index in range(11)]


@pytest.fixture(scope="session")
def answers(model: Gemma, prompts: Prompts) -> list[Generation]:
    return generate(model, prompts, **OPTIONS)


def bare(generations: list[Generation]) -> list[tuple[list[int], str, int, int]]:
    """Without the time."""
    return [(one.ids, one.finish_reason, one.prompt_tokens, one.new_tokens) for one in generations]


def test_greedy_tokens_equal_pytorchs(golden: SimpleNamespace, golden_model: Callable[..., Decoder]) -> None:
    """Prompts of different length in one batch give the tokens that PyTorch gives one by one without a cache."""
    length = len(golden.greedy[0])
    found = generate(golden_model(), golden.prompts, max_new_tokens=length, eos_id=-1, pad_id=0, batch_size=4)
    assert [one.ids for one in found] == golden.greedy


def test_each_token_is_the_argmax_of_the_whole_row(model: Gemma, prompts: Prompts, answers: list[Generation]) -> None:
    """The cached loop gives what a full forward pass over prompt and answer gives at each place."""
    for prompt, answer in list(zip(prompts, answers, strict=True))[:4]:
        row = jnp.array([prompt + answer.ids], jnp.int32)
        logits = model(row, positions=jnp.arange(row.shape[1], dtype=jnp.int32)[None, :])[0]
        expected = jnp.argmax(logits, axis=-1)[len(prompt) - 1 : -1].tolist()
        assert answer.ids == expected


@pytest.mark.parametrize("order", ["alone", "reversed", "half"])
def test_a_row_does_not_depend_on_its_batch(
    model: Gemma, prompts: Prompts, answers: list[Generation], order: str
) -> None:
    """Alone, in reverse order, or without half of the others: each row's tokens are the same."""
    chosen = {"alone": [4], "reversed": list(range(10, -1, -1)), "half": [1, 3, 5, 7, 9]}[order]
    found = generate(model, [prompts[index] for index in chosen], **OPTIONS)
    assert bare(found) == bare([answers[index] for index in chosen])


def test_one_program_per_bucket(model: Gemma, prompts: Prompts) -> None:
    """Six batches in two buckets compile twice, and a second call compiles nothing."""
    compiled: list[str] = []

    def hear(name: str, *_: float, **__: object) -> None:
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    list(Sampler(model, **OPTIONS).batches(prompts))  # whatever jax compiles once for itself
    sampler = Sampler(model, **(OPTIONS | {"max_new_tokens": 4}))
    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        assert len(list(sampler.batches(prompts))) == 6
        assert len(compiled) == 2
        list(sampler.batches(prompts[::-1]))
        list(Sampler(model, **(OPTIONS | {"max_new_tokens": 4, "eos_id": 7})).batches(prompts))
        assert len(compiled) == 2
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    assert sorted(sampler.compile_seconds) == [16, 32]


def test_an_answer_ends_at_eos(model: Gemma, prompts: Prompts, answers: list[Generation]) -> None:
    """The EOS is counted and not kept; rows that go on are not touched by rows that ended."""
    eos = answers[5].ids[2]
    place = answers[5].ids.index(eos)
    found = generate(model, prompts, **(OPTIONS | {"eos_id": eos}))
    assert (found[5].ids, found[5].finish_reason) == (answers[5].ids[:place], "eos")
    for one, full in zip(found, answers, strict=True):
        cut = full.ids.index(eos) if eos in full.ids else len(full.ids)
        assert one.ids == full.ids[:cut]
        assert one.finish_reason == ("eos" if eos in full.ids else "length")
        assert one.new_tokens == len(one.ids) + (one.finish_reason == "eos")


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_is_exact(model: Gemma, prompts: Prompts, answers: list[Generation], limit: int) -> None:
    """max_new_tokens 1 needs no decoding step at all; answers are prefixes of longer ones."""
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


def test_batches_are_told_as_they_finish(model: Gemma, prompts: Prompts, answers: list[Generation]) -> None:
    """on_batch hears every index once, short buckets first, at most batch_size at a time."""
    heard: list[tuple[list[int], list[Generation]]] = []
    found = generate(model, prompts, on_batch=lambda *batch: heard.append(batch), **OPTIONS)
    assert [indices for indices, _ in heard] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]]
    assert sorted(index for indices, _ in heard for index in indices) == list(range(11))
    assert all(len(indices) <= 2 for indices, _ in heard)
    assert bare(found) == bare(answers)


def test_no_prompts_no_work(model: Gemma) -> None:
    """An empty list is an empty answer."""
    assert generate(model, [], **OPTIONS) == []


def test_buckets_are_powers_of_two_that_fit() -> None:
    """Every length fits its bucket, which is less than twice as long (above the smallest)."""
    for length in range(1, 3000):
        bucket = bucket_of(length)
        assert length <= bucket
        assert bucket == 16 or bucket < 2 * length


def test_bf16_generates(make_model: Make, prompts: Prompts) -> None:
    """The cache and the loop keep their dtypes in bf16."""
    model = make_model(param_dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)
    assert all(len(one.ids) <= 5 for one in generate(model, prompts[:2], **OPTIONS))


def test_a_row_that_ended_stays_ended(model: Gemma, prompts: Prompts, answers: list[Generation]) -> None:
    """After its EOS a row is padding, and the loop stops once every row has ended."""
    sampler = Sampler(model, **(OPTIONS | {"eos_id": answers[0].ids[0]}))
    tokens = np.zeros((2, 16), np.int32)
    tokens[0, 0] = 2
    arguments = (sampler._state, tokens, np.array([1, 0], np.int32), sampler.stop_ids, np.int32(0))
    out = np.asarray(sampler._program(16, arguments)(*arguments))
    assert out.tolist() == [[answers[0].ids[0], 0, 0, 0, 0], [0, 0, 0, 0, 0]]
