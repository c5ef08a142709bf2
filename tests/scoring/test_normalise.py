"""The rule of answers on any text at all; what it gives for texts written by hand is in the vectors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scoring import extract_answer, normalise
from engine.scoring.normalise import has_marker

MARKERS = st.sampled_from(["Answer:", "answer:", "ANSWER:", "aNsWeR:"])
WITHOUT_MARKER = st.text(max_size=20).filter(lambda text: ":" not in text)


@given(st.text(max_size=30), MARKERS, WITHOUT_MARKER)
def test_the_answer_is_what_follows_the_last_marker(before: str, marker: str, after: str) -> None:
    """Whatever stands before it, markers included, and however the marker is written."""
    assert extract_answer(before + marker + after) == after.strip()


@given(WITHOUT_MARKER)
def test_without_a_marker_the_whole_text_is_the_answer(text: str) -> None:
    """Stripped at both ends, and otherwise as it was written."""
    assert extract_answer(text) == text.strip()


@given(WITHOUT_MARKER)
def test_no_other_letter_stands_for_one_of_the_marker(text: str) -> None:
    """A long s looks like an s and folds to one, but the marker is matched in ASCII."""
    assert extract_answer(f"An\u017fwer: {text}") == f"An\u017fwer: {text}".strip()


@given(st.text(max_size=20), st.sampled_from(["", " ", "\n\t", "\u00a0", "\u3000"]))
def test_ends_and_case_make_no_difference(answer: str, space: str) -> None:
    """White space around an answer does not count, nor does its case; the form that is compared is its own form."""
    assert normalise(space + answer + space) == normalise(answer) == normalise(answer.casefold())
    assert normalise(normalise(answer)) == normalise(answer)


@given(st.text(max_size=10), MARKERS, WITHOUT_MARKER)
def test_a_marker_is_seen_wherever_it_stands(before: str, marker: str, after: str) -> None:
    """In any case; a text without one has none."""
    assert has_marker(f"{before}{marker}{after}") is True
    assert has_marker(after) is False
