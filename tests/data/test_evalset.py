"""Eval sets: the shipped ones, people's own, and every way they can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.assets import asset
from engine.data import check_eval_set, normalise_prompt, read_eval_set
from engine.data.evalset import MARKER
from engine.data.evalsets import eval_v2
from engine.data.make_evalsets import make, second_answer
from engine.errors import InputInvalid
from engine.scoring import metric_named

SHIPPED = ["eval_v2.jsonl", "quickstart.jsonl"]


def item(at, **changes):
    return {"id": f"i{at}", "prompt": f"p{at}", "expected_answer": "a", **changes}


def test_eval_v2_has_exactly_the_composition_that_is_declared():
    report = check_eval_set(asset("evalsets", "eval_v2.jsonl"))
    assert report.ok
    assert report.n_items == 100
    assert report.sections == {"core": 60, "edge_case": 15, "trace_sensitive": 25}
    assert report.difficulties == {"easy": 34, "medium": 41, "hard": 25}
    assert report.categories == dict.fromkeys(sorted(eval_v2.QUESTIONS), 10)
    assert len(report.categories) == 10


def test_the_quickstart_set_has_100_items_of_every_section_and_difficulty():
    report = check_eval_set(asset("evalsets", "quickstart.jsonl"))
    assert report.ok
    assert report.n_items == 100
    assert set(report.sections) == {"core", "trace_sensitive", "edge_case"}
    assert set(report.difficulties) == {"easy", "medium", "hard"}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_expected_answer_is_found_again_by_a_second_derivation(name):
    items = read_eval_set(asset("evalsets", name))
    assert [(i.id, second_answer(i)) for i in items] == [(i.id, i.expected_answer) for i in items]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_committed_file_is_what_the_maker_makes(name):
    assert asset("evalsets", name).read_bytes() == make()[name]


def test_the_maker_writes_both_files(tmp_path):
    command = [sys.executable, "-m", "engine.data.make_evalsets", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {path.name for path in tmp_path.iterdir()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_item_fits_the_schema(name):
    validator = jsonschema.Draft7Validator(json.loads(asset("schemas", "evalset_item.schema.json").read_text()))
    for line in asset("evalsets", name).read_text().splitlines():
        validator.validate(json.loads(line))


def test_the_two_sets_share_no_question():
    prompts = [normalise_prompt(i.prompt) for name in SHIPPED for i in read_eval_set(asset("evalsets", name))]
    assert Counter(prompts).most_common(1)[0][1] == 1


def test_every_question_of_eval_v2_says_the_form_of_its_answer():
    forms = ("Reply with ", "Write ", "Use ", "Separate ", "Put ")
    for question in read_eval_set(asset("evalsets", "eval_v2.jsonl")):
        assert any(form in question.prompt for form in forms), question.prompt


def test_peoples_own_sections_and_categories_are_free_text(jsonl):
    path = jsonl(item(1, section="Teil A", category="Äpfel"), item(2, meta={"source": "me"}))
    one, two = read_eval_set(path)
    assert (one.section, one.category, one.difficulty) == ("Teil A", "Äpfel", "unspecified")
    assert two.section == "unspecified"
    assert check_eval_set(path).difficulties == {"unspecified": 2}


GOLDEN = [
    ("twin_id", [item(1), item(2, id="i1")], """error[D225]: line 1 has the id "i1" already
  --> mine.jsonl:2:2
   |
 2 | {"id": "i1", "prompt": "p2", "expected_answer": "a"}
   |  ^^^^
   = help: give each item an id of its own"""),
    ("twin_prompt", [item(1), item(2, prompt="P1 ")], """error[D226]: line 1 has the prompt "p1" already
  --> mine.jsonl:2:14
   |
 2 | {"id": "i2", "prompt": "P1 ", "expected_answer": "a"}
   |              ^^^^^^^^
   = help: delete one of them, or declare what it means: eval_set: {path: …, on_duplicate: keep} (or drop)"""),
    ("missing", [{"id": "i1", "prompt": "p"}], """error[D220]: the item has no "expected_answer"
  --> mine.jsonl:1:1
   |
 1 | {"id": "i1", "prompt": "p"}
   | ^
   = help: an item needs id, prompt, expected_answer"""),
    ("difficulty", [item(1, difficulty="Easy")], """error[D224]: unknown difficulty "Easy"
  --> mine.jsonl:1:54
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": "a", "difficulty": "Easy"}
   |                                                      ^^^^^^^^^^^^
   = help: did you mean "easy"?"""),
    ("unknown_key", [item(1, dificulty="easy")], """error[D223]: unknown key "dificulty"
  --> mine.jsonl:1:54
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": "a", "dificulty": "easy"}
   |                                                      ^^^^^^^^^^^
   = help: did you mean "difficulty"?"""),
    ("empty_answer", [item(1, expected_answer=" ")], """error[D222]: "expected_answer" is empty
  --> mine.jsonl:1:30
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": " "}
   |                              ^^^^^^^^^^^^^^^^^
   = help: fill it in, or leave the key out"""),
    ("number", [item(1, expected_answer=4)], """error[D221]: "expected_answer" is a number, not a text
  --> mine.jsonl:1:30
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": 4}
   |                              ^^^^^^^^^^^^^^^^^
   = help: write it in quotes: "4\""""),
    ("two_lines", [item(1, expected_answer="a\nb")], r"""error[D227]: "expected_answer" has more than one line
  --> mine.jsonl:1:30
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": "a\nb"}
   |                              ^^^^^^^^^^^^^^^^^
   = help: the scorer compares single lines"""),
    ("marker", [item(1, expected_answer="The answer: 4")], """error[D227]: "expected_answer" has "answer:" in it, and the \
scorer compares what follows that: every answer would be wrong
  --> mine.jsonl:1:30
   |
 1 | {"id": "i1", "prompt": "p1", "expected_answer": "The answer: 4"}
   |                              ^^^^^^^^^^^^^^^^^
   = help: write the answer alone: "4\""""),
    ("empty", [], """error[D204]: mine.jsonl is empty
  --> mine.jsonl
   = help: one JSON object a line is expected"""),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "message"), [g[1:] for g in GOLDEN], ids=[g[0] for g in GOLDEN])
def test_each_bad_item_has_its_message(jsonl, complaint, lines, message):
    assert complaint(read_eval_set, jsonl(*lines)) == message


@given(
    st.text(max_size=12),
    st.sampled_from(["Answer:", "answer:", "ANSWER:", "an\u017fwer:", "answer", "Antwort:"]),
    st.text(max_size=12),
)
def test_an_answer_is_refused_exactly_where_the_scorer_could_never_give_1(before: str, marker: str, after: str) -> None:
    """This part and the scorer each have the marker, and neither imports the other."""
    answer = f"{before}{marker}{after}"
    own = f"so\nAnswer: {answer}"
    could_be_right = metric_named("answer_correctness@v1").judge(own, answer)[1] == 1.0
    assert could_be_right is (MARKER.search(answer) is None)


def test_bad_json_in_line_57_is_found_with_its_column(jsonl, complaint):
    lines = [item(at) for at in range(1, 57)]
    text = complaint(read_eval_set, jsonl(*lines, '{"id": "i57", "prompt": }', item(58)))
    assert text == (
        "error[D207]: not valid JSON: unexpected `}` (column 25)\n"
        "  --> mine.jsonl:57:25\n"
        "   |\n"
        '57 | {"id": "i57", "prompt": }\n'
        "   |                         ^\n"
        "   = help: one JSON object a line"
    )


def test_all_errors_of_a_set_come_in_one_go(jsonl):
    path = jsonl(item(1), "{", item(1), {"id": 3}, item(4, difficulty="x", section=5))
    with pytest.raises(InputInvalid) as caught:
        read_eval_set(path)
    found = [(d.code, d.where.line) for d in caught.value.diagnostics]
    assert found == [
        ("D207", 2), ("D225", 3), ("D226", 3), ("D220", 4), ("D220", 4), ("D221", 4), ("D221", 5), ("D224", 5),
    ]  # fmt: skip


def test_the_report_never_raises_and_shows_the_composition(jsonl, tmp_path):
    report = check_eval_set(jsonl(item(1, category="a", difficulty="hard"), item(2, category="a"), "{"))
    assert not report.ok
    assert report.table == {"a": {"hard": 1, "unspecified": 1}}
    assert "sections: unspecified 2" in report.text()
    json.dumps(report.as_json())
    assert check_eval_set(tmp_path / "none").diagnostics[0].code == "D201"


@given(data=st.binary(max_size=200))
def test_any_bytes_give_items_or_diagnostics_never_a_traceback(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "f.jsonl"
    path.write_bytes(data)
    report = check_eval_set(path)
    assert report.ok == bool(report.n_items and not report.diagnostics)
    assert report.diagnostics or report.n_items


VALUES = st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["easy", "a\nb", ""])
ITEMS = st.dictionaries(
    st.sampled_from(["id", "prompt", "expected_answer", "section", "category", "difficulty", "meta", "promt"]),
    VALUES | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
)


@given(rows=st.lists(ITEMS, min_size=1, max_size=4))
def test_every_line_is_either_an_item_or_a_finding(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("items") / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check_eval_set(path)
    bad = {d.where.line for d in report.diagnostics}
    assert report.n_items + len(bad) >= len(rows)


def test_a_policy_is_declared_for_questions_that_stand_twice(jsonl):
    """keep asks both, drop the first alone; either way they are counted, and other errors are still errors."""
    path = jsonl(item(1), item(2), item(3, prompt=" P1"), item(4, prompt="p1"))
    ids = {policy: [found.id for found in read_eval_set(path, on_duplicate=policy)] for policy in ("keep", "drop")}
    assert ids == {"keep": ["i1", "i2", "i3", "i4"], "drop": ["i1", "i2"]}
    reports = {policy: check_eval_set(path, on_duplicate=policy) for policy in ("fail", "keep", "drop")}
    assert [(report.ok, report.n_items, report.n_duplicates) for report in reports.values()] == [
        (False, 4, 2), (True, 4, 2), (True, 2, 2),
    ]  # fmt: skip
    assert "items whose question an earlier one has: 2" in reports["keep"].text()
    twice = jsonl(item(1), item(2, id="i1", prompt="p1"), name="twice.jsonl")
    assert [finding.code for finding in check_eval_set(twice, on_duplicate="keep").diagnostics] == ["D225"]
