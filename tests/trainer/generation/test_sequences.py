"""Where an answer ends: the reasons, the counts, the text, for pieces of any size."""

from __future__ import annotations

import numpy as np
import pytest

from engine.trainer.generation.sequences import GeneratedSequence, SequenceInProgress, StopStrings
from engine.trainer.text.tokenizer import build_chars

ENDS = {1: "eos", 3: "end_of_turn"}
TOKENIZER = build_chars()
STOPS = StopStrings(["END", "\n\n", "é!"], TOKENIZER.decode)


def answer(
    ids: list[int], *, piece: int = 100, limit: int = 50, stops: StopStrings | None = STOPS
) -> GeneratedSequence:
    """The generation of a row that was given ``ids`` in pieces."""
    row = SequenceInProgress(0, [2, 7], np.zeros(2, np.uint32))
    for start in range(0, len(ids), piece):
        row.append(ids[start : start + piece], ENDS, limit, stops)
    return row.generation()


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "tail", "reason", "kept", "count"),
    [
        ("yes", [1, 9, 9], "eos", "yes", 4),
        ("yes", [3, 1], "end_of_turn", "yes", 4),
        ("one\n\ntwo", [1], "stop", "one", 5),
        ("a END", [1], "stop", "a ", 5),
        ("END", [1], "stop", "", 3),
        ("café!x", [1], "stop", "caf", 6),  # é is two tokens
        ("EN D", [1], "eos", "EN D", 5),
        ("x" * 60, [1], "length", "x" * 50, 50),
        ("x" * 47 + "END", [1], "stop", "x" * 47, 50),  # the last token allowed completes it
        ("", [1], "eos", "", 1),
    ],
)
def test_an_answer_ends_where_it_should(
    piece: int, text: str, tail: list[int], reason: str, kept: str, count: int
) -> None:
    """Reason, text and number of computed tokens, including the one that ended it."""
    found = answer(TOKENIZER.encode(text) + tail, piece=piece)
    said = TOKENIZER.decode(found.ids) if found.text is None else found.text
    assert (found.finish_reason, said, found.new_tokens, found.prompt_tokens) == (reason, kept, count, 2)
    assert found.new_tokens == len(found.ids) + (reason in ("eos", "end_of_turn"))


def test_the_first_of_two_stop_strings_cuts() -> None:
    """One token can complete a string that begins before another one ended."""
    stops = StopStrings(["bc", "abcd", "abc"], TOKENIZER.decode)
    assert answer(TOKENIZER.encode("xabcd"), stops=stops).text == "x"


def test_without_stop_strings_nothing_is_cut() -> None:
    """Without a stop string the text is that of the ids."""
    found = answer([*TOKENIZER.encode("END"), 1], stops=None)
    assert (found.text, found.finish_reason) == (None, "eos")
