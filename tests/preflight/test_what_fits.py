"""The table of what fits where: the search for the largest shape, and the page that carries what the script prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model_config.shapes import param_count
from engine.protocol.device_memory import fits

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import what_fits  # noqa: E402
from parts import fit_tables, fitting  # noqa: E402
from parts.fitting import CASES, CONTEXTS, METHODS, QUESTIONS, TARGETS, Case, Shape, asking, recorded, search  # noqa: E402

LADDER = [Shape(512 << power, 1) for power in range(8)]
CASE = Case("t4x2", "gemma-2b", "in_backward")


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=len(LADDER), max_size=len(LADDER)).map(sorted),
    errors=st.lists(st.floats(-0.13, 0.13), min_size=len(LADDER), max_size=len(LADDER)),
    limit=st.integers(1, 1100),
)
def test_the_largest_shape_that_fits_is_found(sizes: list[int], errors: list[float], limit: int) -> None:
    """Whatever the estimate says within its 15 %: the answer fits, the next does not, and no shape is asked about twice."""
    needed = dict(zip(LADDER, sizes, strict=True))
    estimates = {
        shape: max(1, int(size * (1 + error))) for (shape, size), error in zip(needed.items(), errors, strict=True)
    }
    asked: list[Shape] = []

    def ask(shape: Shape) -> int:
        asked.append(shape)
        return needed[shape]

    found = search(LADDER, estimates.__getitem__, limit, ask)
    largest = max((shape for shape in LADDER if fits(needed[shape], limit)), default=None)
    assert found.shape == largest
    assert len(asked) == len(set(asked))
    if largest is not None:
        assert found.source == "compiler"
        assert found.needed == needed[largest]
        assert (found.next_source is None) == (largest == LADDER[-1])


def test_without_answers_the_estimate_is_taken_and_says_so() -> None:
    """Nothing on file: the estimate's shape, marked as such, and so in the table."""
    found = CASE.find("longest sequence", asking(CASE, {}))
    assert found.source == "estimate"
    assert "| ~8,192 * |" in fit_tables.tables([CASE], {})


def test_an_answer_on_file_is_taken_before_the_estimate() -> None:
    """A compiler that needs more than the estimate moves the answer down, one that fits confirms it."""
    shape = Shape(8192, 1)
    too_much, enough = ({CASE.name(shape): {"needed_bytes": needed}} for needed in (CASE.limit, CASE.limit // 2))
    smaller, same = (CASE.find("longest sequence", asking(CASE, answers)) for answers in (too_much, enough))
    assert (smaller.shape, smaller.source, smaller.next_source) == (Shape(4096, 1), "estimate", "compiler")
    assert (same.shape, same.source, same.needed) == (shape, "compiler", CASE.limit // 2)


def test_a_killed_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is on file before the next is asked for, and none is asked for again."""
    monkeypatch.setattr(fitting, "RECORD", tmp_path / "answers.json")
    monkeypatch.setattr(what_fits, "RECORD", tmp_path / "answers.json")
    asked: list[str] = []

    def compiler(_: Path, job: Any) -> dict[str, Any]:
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(job.machine)
        return {
            "needed_bytes": 1 << 30,
            "how": {"attention": "plain"},
            "source": "gpu-compiler",
            "work": dict.fromkeys(what_fits.WORK),
            "compile_seconds": 1.0,
        }

    monkeypatch.setattr(what_fits, "ask", compiler)
    with pytest.raises(KeyboardInterrupt):
        what_fits.ask_missing([CASE])
    (kept,) = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert kept == "t4x2 gemma-2b in_backward 8192x1"
    asked.clear()
    monkeypatch.setattr(what_fits, "QUESTIONS", QUESTIONS[:1])
    what_fits.ask_missing([CASE])
    assert asked == []


def test_the_page_has_what_the_script_prints() -> None:
    """docs/reference/what-fits.md: `python benchmarks/what_fits.py --page` has been run."""
    text = what_fits.PAGE.read_text(encoding="utf-8")
    assert text == fit_tables.page(text, recorded()), "python benchmarks/what_fits.py --page"
    assert fit_tables.tables(CASES, recorded()) in text


def test_the_table_covers_models_methods_and_targets() -> None:
    """Eight models, three methods, five machines, and a context for each model."""
    assert len(CASES) == len(CONTEXTS) * len(METHODS) * len(TARGETS) == 120
    assert min(param_count(case.config) for case in CASES) < 3e8
    assert max(param_count(case.config) for case in CASES) > 11e9


def test_every_answer_on_file_belongs_to_a_case() -> None:
    """Names, sizes and versions: none of a case that is not in the table, none without its source."""
    names = {case.name(shape) for case in CASES for question in QUESTIONS for shape in case.ladder(question)}
    answers = recorded()
    assert set(answers) <= names
    assert {answer["source"] for answer in answers.values()} <= {"gpu-compiler", "tpu-compiler"}
    assert all(answer["versions"] and answer["needed_bytes"] > 0 for answer in answers.values())


def test_more_tokens_never_need_less() -> None:
    """The compilers' answers grow along each ladder, as the search assumes."""
    answers = recorded()
    for case in CASES:
        for question in QUESTIONS:
            needed = [found for shape in case.ladder(question) if (found := asking(case, answers)(shape)) is not None]
            assert needed == sorted(needed), case
