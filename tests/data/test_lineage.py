"""Duplicates, overlap with the eval set, and what each policy does about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import (
    Conversation,
    DatasetRow,
    EvalItem,
    Message,
    PromptCompletion,
    find_overlaps,
    normalise_prompt,
    prepare,
)
from engine.errors import InputInvalid


def rows(*prompts):
    return [DatasetRow(f"r{at}", PromptCompletion(p, "c"), line=at) for at, p in enumerate(prompts, 1)]


def items(*prompts):
    return [EvalItem(f"e{at}", p, "x") for at, p in enumerate(prompts, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  2 + 2?", " what is 2 + 2? "),
        ("STRASSE", "straße"),
        ("cafe\u0301", "café"),
        ("a\tb\nc", "a b c"),
        ("a\u00a0b", "a b"),
    ],
)
def test_prompts_that_look_alike_are_the_same(one, other):
    assert normalise_prompt(one) == normalise_prompt(other)


@pytest.mark.parametrize(("one", "other"), [("2 + 2", "2 + 3"), ("2+2", "2 + 2"), ("a", "ä"), ("½", "1/2")])
def test_prompts_that_differ_in_a_character_are_not(one, other):
    assert normalise_prompt(one) != normalise_prompt(other)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise_prompt(normalise_prompt(text)) == normalise_prompt(text)


def test_duplicates_are_kept_dropped_or_fatal():
    given_rows = rows("a", "b", "A ")
    kept = prepare(given_rows, [], on_duplicate="keep")
    assert (len(kept.rows), kept.n_duplicates, kept.n_dropped) == (3, 1, 0)
    dropped = prepare(given_rows, [], on_duplicate="drop")
    assert [row.id for row in dropped.rows] == ["r1", "r2"]
    assert (dropped.n_duplicates, dropped.n_dropped, dropped.n_read) == (1, 1, 3)
    with pytest.raises(InputInvalid) as caught:
        prepare(given_rows, [], on_duplicate="fail", file="f.jsonl")
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.message) == ("D301", 'row "r3" repeats the prompt of row "r1": A ')
    assert str(finding.where) == "f.jsonl:3"


def test_overlap_fails_unless_declared():
    given_rows, asked = rows("a", "b"), items("x", "B")
    with pytest.raises(InputInvalid) as caught:
        prepare(given_rows, asked)
    assert [d.message for d in caught.value.diagnostics] == ['row "r2" asks what eval item "e2" asks: b']
    assert caught.value.code == "D302"
    assert [row.id for row in prepare(given_rows, asked, on_overlap="drop").rows] == ["r1"]
    kept = prepare(given_rows, asked, on_overlap="keep")
    assert (len(kept.rows), kept.n_overlap, kept.n_dropped) == (2, 1, 0)


def test_both_policies_speak_in_one_go():
    with pytest.raises(InputInvalid) as caught:
        prepare(rows("a", "b", "b"), items("a"), on_duplicate="fail")
    assert [d.code for d in caught.value.diagnostics] == ["D302", "D301"]


def test_dropping_an_overlapping_row_takes_its_twin_along():
    prepared = prepare(rows("a", "b", "a"), items("a"), on_overlap="drop")
    assert [row.id for row in prepared.rows] == ["r2"]
    assert (prepared.n_overlap, prepared.n_duplicates, prepared.n_dropped) == (2, 0, 2)


def test_nothing_left_is_an_error():
    with pytest.raises(InputInvalid) as caught:
        prepare(rows("a"), items("a"), on_overlap="drop")
    assert caught.value.code == "D303"


def test_every_user_turn_of_a_conversation_is_compared():
    turns = [("user", "x"), ("assistant", "y"), ("user", "What?"), ("assistant", "z")]
    row = DatasetRow("r", Conversation(tuple(Message(role, text) for role, text in turns)))
    assert [match.prompt for match in find_overlaps([row], items("what?"))] == ["What?"]


def test_many_findings_are_counted_beyond_twenty():
    with pytest.raises(InputInvalid) as caught:
        prepare(rows(*["a"] * 31), [], on_duplicate="fail")
    assert len(caught.value.diagnostics) == 21
    assert caught.value.diagnostics[-1].message == "and 10 more duplicate rows"


def test_no_eval_set_is_not_the_same_as_no_overlap():
    assert prepare(rows("a"), None).lineage()["n_overlap"] is None
    assert prepare(rows("a"), []).lineage()["n_overlap"] == 0


PROMPTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12)


@given(prompts=PROMPTS, asked=PROMPTS, on_duplicate=st.sampled_from(["keep", "drop"]))
def test_counts_add_up_and_dropping_leaves_neither_twins_nor_overlap(prompts, asked, on_duplicate):
    try:
        prepared = prepare(rows(*prompts), items(*asked), on_duplicate=on_duplicate, on_overlap="drop")
    except InputInvalid:
        assert set(prompts) <= set(asked)
        return
    left = [row.prompt for row in prepared.rows]
    assert prepared.n_read == len(left) + prepared.n_dropped
    assert not set(left) & set(asked)
    assert on_duplicate == "keep" or len(set(left)) == len(left)
