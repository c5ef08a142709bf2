"""dataset check, dataset build, evalset check and score: files in, one answer out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROWS = [
    {"question": "What is 2 + 3?", "answer": "5"},
    {"question": "What is 4 + 4?", "answer": "8"},
]
GROUPS = {"section": "core", "category": "arithmetic"}
ITEMS = [
    {"id": "e1", "prompt": "What is 4 + 4?", "expected_answer": "8", **GROUPS, "difficulty": "easy"},
    {"id": "e2", "prompt": "What is 9 + 1?", "expected_answer": "10", **GROUPS, "difficulty": "hard"},
]
MAPPED = ("--format", "prompt_completion", "--field", "prompt=question", "--field", "completion=answer")


def _write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_good_file_shows_a_row_with_the_trained_part_marked(runspec, project):
    """The answer stands between the marks; exit 0."""
    file = _write(project / "rows.jsonl", ROWS)
    done = runspec("dataset", "check", file, *MAPPED)
    assert done.code == 0, done.err
    assert "[trained>5" in done.out
    document = runspec("dataset", "check", file, *MAPPED, "--json").document
    assert (document["ok"], document["n_rows"], document["n_overlap"]) == (True, 2, None)


def test_bad_rows_are_all_reported(runspec, project):
    """Every bad row is a diagnostic with its line; exit 2; the JSON is one document."""
    file = _write(project / "rows.jsonl", [ROWS[0], {"question": "x?", "answer": ""}, {"question": "y?"}])
    done = runspec("dataset", "check", file, *MAPPED, "--json")
    assert done.code == 2
    assert {row["line"] for row in done.document["diagnostics"]} == {2, 3}


def test_overlap_with_the_eval_set_is_found(runspec, project):
    """A training prompt that the eval set asks is an error, as it is in a run."""
    file = _write(project / "rows.jsonl", ROWS)
    evals = _write(project / "evals.jsonl", ITEMS)
    done = runspec("dataset", "check", file, *MAPPED, "--eval-set", evals, "--json")
    assert (done.code, done.document["n_overlap"]) == (2, 1)
    assert done.document["diagnostics"][0]["code"] == "D302"


def test_a_file_is_read_by_the_tokenizer_of_a_model_folder(runspec, project):
    """Lengths are in its tokens, a text in another script comes back whole, and the trained part is what is trained."""
    from engine.trainer.text.tokenizer import build_chars

    build_chars().save(project / "model")
    file = _write(project / "rows.jsonl", [{"question": "à la ½?", "answer": "œuf"}])
    done = runspec("dataset", "check", file, *MAPPED, "--model", "model", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert document["sample"]["text"] == "<bos>à la ½?\n[trained>œuf<eos><trained]"
    # 11 characters, three of which take two bytes (a byte is a token of this vocabulary), BOS and EOS.
    assert (document["unit"], document["lengths"]["max"], document["trained_lengths"]["max"]) == ("tokens", 16, 5)
    assert (document["tokenizer"], document["n_boundary_merges"]) == ("model", 0)
    assert "tokenised by the tokenizer of model" in runspec("dataset", "check", file, *MAPPED, "--model", "model").out


def test_rows_that_the_chat_template_refuses_are_named_with_their_line(runspec, project):
    """The checkpoint's own template says what it does not take; the other rows are still counted."""
    from engine.trainer.text.tokenizer import build_chars

    build_chars().save(project / "model")
    (project / "model" / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    rows = [{"messages": turns}, {"messages": [{"role": "system", "content": "x"}, *turns]}]
    file = _write(project / "rows.jsonl", rows)
    assert runspec("dataset", "check", file, "--format", "chat").code == 0
    done = runspec("dataset", "check", file, "--format", "chat", "--model", "model", "--json")
    assert done.code == 2
    (found,) = done.document["diagnostics"]
    assert (found["code"], found["line"], Path(found["file"]).name) == ("M306", 2, "rows.jsonl")
    sample = done.document["sample"]["text"]
    assert sample == "<bos>[user] Hi\n[assistant] [trained>Ho\n<eos><trained]"


def test_the_model_of_a_check_is_a_folder_with_a_tokenizer(runspec, project):
    """A typo in the folder is U120, a folder without the file M301."""
    file = _write(project / "rows.jsonl", ROWS)
    for folder, code in (("modle", "U120"), (".", "M301")):
        done = runspec("dataset", "check", file, *MAPPED, "--model", folder, "--json")
        assert (done.code, done.document["diagnostics"][0]["code"]) == (2, code)


def test_a_field_must_be_a_pair(runspec, project):
    """--field without an equals sign is U117."""
    file = _write(project / "rows.jsonl", ROWS)
    done = runspec("dataset", "check", file, "--field", "prompt", "--json")
    assert (done.code, done.document["diagnostics"][0]["code"]) == (2, "U117")


def test_a_dataset_is_built_and_passes_its_own_check(runspec, project):
    """Two builds have equal bytes, and the check accepts what was built."""
    assert runspec("dataset", "build", "dev-reasoning-v2", "--out", "a").code == 0
    document = runspec("dataset", "build", "dev-reasoning-v2", "--out", "b", "--json").document
    assert document["facts"]["n_rows"] == 550
    for name in ("dataset.jsonl", "rows.jsonl", "manifest.json"):
        assert (project / "a" / name).read_bytes() == (project / "b" / name).read_bytes()
    assert runspec("dataset", "check", "a/dataset.jsonl").code == 0


BUILD = ("dataset", "build", "quickstart-reasoning", "--num-rows", "20")


@pytest.mark.parametrize("name", ["dataset.jsonl", "rows.jsonl", "manifest.json"])
def test_a_build_never_replaces_a_file_of_other_origin(runspec, project, name):
    """`--out data` beside one's own data/dataset.jsonl: nothing is written at all."""
    own = '{"files": {"dataset.jsonl": "0"}, "build_id": "mine"}'
    _put(project / "data" / name, own)
    done = runspec(*BUILD, "--out", "data", "--json")
    (found,) = done.document["diagnostics"]
    assert (done.code, found["code"]) == (2, "U111")
    assert found["message"] == f"data/{name} is there already, and no build has written it"
    assert [(path.name, path.read_text()) for path in (project / "data").iterdir()] == [(name, own)]


def test_a_build_replaces_an_earlier_build_until_that_is_edited(runspec, project):
    """What a builder made, it makes again; a row that a person corrected is kept."""
    assert runspec(*BUILD, "--out", "data", "--seed", "1").code == 0
    assert runspec(*BUILD, "--out", "data", "--seed", "2").code == 0
    with (project / "data" / "dataset.jsonl").open("a") as stream:
        stream.write("\n")
    assert runspec(*BUILD, "--out", "data", "--seed", "2").code == 2
    (project / "data" / "dataset.jsonl").unlink()
    assert runspec(*BUILD, "--out", "data", "--seed", "3").code == 0


@pytest.mark.parametrize("below", ["", "/more"])
@pytest.mark.parametrize("words", [(*BUILD, "--out"), ("init", "quickstart", "--dir")])
def test_nothing_is_written_into_an_evidence_folder(runspec, project, words, below):
    """Every later run would end with 4 for the file that no run has written."""
    _put(project / "submission_runs" / "x" / "run_record.json", '{"run_version": "x"}')
    done = runspec(*words, f"submission_runs/x{below}", "--json")
    assert (done.code, done.document["diagnostics"][0]["code"]) == (2, "U146")
    assert [path.name for path in (project / "submission_runs" / "x").iterdir()] == ["run_record.json"]


def test_an_unknown_builder_is_suggested(runspec, project):
    """A typo in the name of a dataset is U110 with the near one."""
    done = runspec("dataset", "build", "dev-reasoning-v3", "--json")
    assert done.code == 2
    assert done.document["diagnostics"][0]["hint"] == 'did you mean "dev-reasoning-v2"?'


@pytest.mark.skipif("os.geteuid() == 0", reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(runspec, project):
    """No permission is a failed run with a fix, not a traceback."""
    (project / "locked").mkdir(mode=0o500)
    assert runspec("dataset", "build", "dev-reasoning-v2", "--out", "locked/x").code == 1


def test_out_that_is_a_file(runspec, project):
    """--out that names a file is exit 1, U115."""
    (project / "taken").write_text("")
    done = runspec("dataset", "build", "dev-reasoning-v2", "--out", "taken", "--json")
    assert (done.code, done.document["diagnostics"][0]["code"]) == (1, "U115")


def test_an_eval_set_shows_its_composition(runspec, project):
    """Items by category and difficulty."""
    file = _write(project / "evals.jsonl", ITEMS)
    done = runspec("evalset", "check", file)
    assert done.code == 0, done.err
    assert "arithmetic" in done.out
    assert runspec("evalset", "check", file, "--json").document["difficulties"] == {"easy": 1, "hard": 1}


def test_bad_json_in_an_eval_set_names_the_line(runspec, project):
    """Line 57 that is no JSON is reported as line 57."""
    rows = [{**ITEMS[0], "id": f"e{at}", "prompt": f"What is {at} + 1?"} for at in range(56)]
    _write(project / "evals.jsonl", rows)
    with (project / "evals.jsonl").open("a") as stream:
        stream.write("{oops\n")
    done = runspec("evalset", "check", "evals.jsonl", "--json")
    assert done.code == 2
    assert [row["line"] for row in done.document["diagnostics"]] == [57]


def test_scores(runspec, project):
    """The scorer alone: a missing prediction counts 0."""
    evals = _write(project / "evals.jsonl", ITEMS)
    predictions = _write(project / "predictions.jsonl", [{"id": "e1", "text": "so\nAnswer: 8"}])
    done = runspec("score", predictions, evals, "--json")
    assert done.code == 0, done.err
    card = done.document["scorecard"]
    assert (card["primary_score"], card["n_items"], card["n_skipped"]) == (0.5, 2, 1)
    assert "primary_score" in runspec("score", predictions, evals).out


def test_an_unknown_metric(runspec, project):
    """A metric that does not exist is exit 2."""
    evals = _write(project / "evals.jsonl", ITEMS)
    predictions = _write(project / "predictions.jsonl", [{"id": "e1", "text": "8"}])
    assert runspec("score", predictions, evals, "--metric", "bleu@v1").code == 2


GOOD_ROW = '{"id": "q", "prompt": "1 + 1?", "steps": [{"content": "add"}], "final_answer": "2"}\n'


@pytest.mark.parametrize(
    ("text", "first", "n_lines"),
    [
        ("{bad\n", "rows.jsonl: 1 error; no row can be read", 1),
        ("", "rows.jsonl: 1 error; no row can be read", 1),
        ("{bad\n" * 60, "rows.jsonl: 60 errors; no row can be read", 1),
        (GOOD_ROW + "{bad\n[]\n", "rows.jsonl: 2 errors; the report is of the rows without one", 13),
    ],
)  # fmt: skip
def test_a_failing_check_prints_no_empty_report(runspec, project, text, first, n_lines):
    """One line where nothing can be read; otherwise the report says which rows it is of."""
    (project / "rows.jsonl").write_text(text)
    done = runspec("dataset", "check", "rows.jsonl")
    assert (done.code, done.out.split("\n")[0], done.out.count("\n")) == (2, first, n_lines)


def test_a_failing_eval_set_prints_no_empty_table(runspec, project):
    """The same for items."""
    (project / "items.jsonl").write_text('{"id": "a"}\n')
    assert runspec("evalset", "check", "items.jsonl").out == "items.jsonl: 2 errors; no item can be read\n"
    (project / "items.jsonl").write_text('{"id": "a", "prompt": "1 + 1?", "expected_answer": "2"}\n{\n')
    done = runspec("evalset", "check", "items.jsonl")
    assert done.out.startswith(
        "items.jsonl: 1 error; the table is of the items that can be read\nitems.jsonl: 1 items\n"
    )
