"""V29, V30 and level L3: what a reader ran again, beside what the evidence records."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence import verify
from engine.evidence.checks.rerun import Again, Rerun, draw
from engine.evidence.contents import Reader
from engine.evidence.verify import Verification

HERE = "Linux x86_64, a processor, cpu"
Edit = Callable[[list[dict[str, Any]]], object]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _detail(verification: Verification, id_: str) -> str:
    [check] = [check for check in verification.checks if check.id == id_]
    return f"{check.status}: {check.detail}"


@pytest.fixture
def again(record: RunRecord, render: Any) -> Callable[..., Verification]:
    """``again(answers=edit, losses=edit)``: three of five answers and two of four train steps come out as they are after the edit."""
    folder = render(record)

    def call(answers: Edit | None = None, losses: Edit | None = None, elsewhere: tuple[str, ...] = ()) -> Verification:
        parts = []
        for name, edit, rows in (("predictions.jsonl", answers, slice(1, 4)), ("metrics.jsonl", losses, slice(2))):
            found = _rows(folder / name)[rows]
            if edit is not None:
                edit(found)
            parts.append(None if edit is None else Again(found, elsewhere))
        return verify(folder, Reader(rerun=Rerun(7, HERE, *parts)))

    return call


def _same(_: object) -> None:
    """No edit."""


def test_equal_answers_are_level_3_and_the_headline_says_of_what(again: Any) -> None:
    """How many items, of how many, by which seed, on which machine; train steps beside them."""
    found = again(answers=_same, losses=_same)
    assert (found.ok, found.trust_level) == (True, "L3")
    assert _detail(found, "V29") == f"pass: 3 of 5 items (seed 7), on {HERE}"
    assert _detail(found, "V30") == "pass: 2 of 4 train steps, from the first"
    assert _detail(found, "V24") == (
        "pass: L3, unsigned: the files agree with each other, and the score follows from the answers; and a part of the run was run "
        f"again here, with the same results: 3 of 5 items (seed 7), on {HERE}; 2 of 4 train steps, from the first"
    )


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda rows: rows[0].update(text="so\nAnswer: 9"), r"q1: text 'so\nAnswer: 2' -> 'so\nAnswer: 9'"),
        (lambda rows: rows[1].update(new_tokens=5), "q2: new_tokens 4 -> 5"),
        (lambda rows: rows[1].update(finish_reason="length"), "q2: finish_reason 'eos' -> 'length'"),
        (lambda rows: rows[2].update(prompt_tokens=6), "q3: prompt_tokens 5 -> 6"),
        (lambda rows: rows[2].update(prompt_sha256="0" * 64), "q3: prompt_sha256 '"),
    ],
)  # fmt: skip
def test_another_answer_on_the_recorded_platform_fails(again: Any, edit: Edit, finding: str) -> None:
    """Text, tokens, end or prompt: the item is named with both values, and no level is left."""
    found = again(answers=edit)
    assert _detail(found, "V29").startswith(f"fail: 1 of 3 differ: {finding}")
    assert found.trust_level is None


def test_times_do_not_have_to_come_out_again(again: Any) -> None:
    """They are measurements."""

    def slower(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(milliseconds=9.0, seconds=9.0, tokens_per_second=1.0)

    assert again(answers=slower, losses=slower).trust_level == "L3"


def test_a_loss_that_differs_in_its_last_bit_fails(again: Any) -> None:
    """On the recorded platform nothing rounds differently."""
    found = again(losses=lambda rows: rows[1].update(loss=math.nextafter(rows[1]["loss"], 1.0)))
    assert _detail(found, "V30").startswith(
        "fail: 1 of 2 differ: train step 2: loss 0.5 -> 0.5000000000000001; 2 of 4 train steps"
    )
    assert found.trust_level is None


def test_the_eval_at_the_end_of_a_shorter_run_is_no_difference(again: Any) -> None:
    """The recorded run was not at its end there."""
    assert _detail(again(losses=lambda rows: rows[1].update(eval_loss=0.5)), "V30").startswith("pass")


def test_train_steps_alone_are_no_level_3(again: Any) -> None:
    """A forger trains a few steps too, and invents the answers."""
    found = again(losses=_same)
    assert (found.ok, found.trust_level) == (True, "L0")
    assert found.trust.rungs[3].found == (
        f"no answer was generated again: --rerun K; 2 of 4 train steps, from the first, on {HERE}"
    )


JAX = "jax 0.10.1 recorded, 0.10.2 here"


def test_another_platform_accuses_nobody(again: Any) -> None:
    """A difference there proves nothing: said, counted, neither a failure nor a level."""
    found = again(
        answers=lambda rows: rows[0].update(text="no"), losses=lambda rows: rows[0].update(loss=3.0), elsewhere=(JAX,)
    )
    assert (found.ok, found.trust_level) == (True, "L0")
    assert _detail(found, "V29") == (
        f"n/a: another platform ({JAX}), so not exact: 2 of 3 are equal; 3 of 5 items (seed 7), on {HERE}"
    )
    assert _detail(found, "V30").startswith(f"n/a: another platform ({JAX}), so not exact: 1 of 2 are equal")


def test_equal_answers_count_wherever_they_were_made(again: Any) -> None:
    """All of them, and it says on what."""
    found = again(answers=_same, elsewhere=("its processor is not recorded",))
    assert found.trust_level == "L3"
    assert _detail(found, "V29").endswith(", perhaps another platform (its processor is not recorded)")


def test_nothing_run_again_is_no_proof(again: Any) -> None:
    """A re-run of no item."""
    found = again(answers=lambda rows: rows.clear())
    assert _detail(found, "V29").startswith("n/a: nothing to compare")
    assert found.trust_level == "L0"


def test_without_a_rerun_its_checks_are_not_in_the_list(record: RunRecord, render: Any) -> None:
    """A stranger's list is the same everywhere."""
    assert {"V29", "V30"}.isdisjoint(check.id for check in verify(render(record)).checks)


IDS = [f"q{number}" for number in range(20)]


def test_a_draw_can_be_repeated_by_its_seed_and_only_by_it() -> None:
    """Equal seeds draw equal items, in the order of the eval set, whatever order they are given in."""
    drawn = draw(IDS, 7, 5)
    assert drawn == draw(IDS, 7, 5) == sorted(draw(IDS[::-1], 7, 5), key=IDS.index)
    assert len({tuple(draw(IDS, seed, 5)) for seed in range(50)}) > 45


def test_every_item_is_drawn_as_often() -> None:
    """2,000 draws of 5 of 20: each about 500 times (six standard deviations of 19.4)."""
    counts = Counter(id_ for seed in range(2000) for id_ in draw(IDS, seed, 5))
    assert all(abs(counts[id_] - 500) < 117 for id_ in IDS)


def test_all_are_drawn_where_there_are_no_more() -> None:
    """And no more than all."""
    assert draw(IDS, 3, 21) == IDS
