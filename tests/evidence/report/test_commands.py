"""``report`` and ``items`` from the command line: where they find evidence, what they refuse, what they print."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.artifacts.journal import Journal, journal_path
from engine.cli import main
from engine.evidence import package
from engine.scoring import METRICS

Said = tuple[int, str, str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder outside the evidence."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def say(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``say("items", folder)`` -> exit code, standard output, standard error."""

    def call(*words: object) -> Said:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_items_are_printed_as_blocks(folder: Path, say: Callable[..., Said]) -> None:
    """Only the wrong one: what was asked, expected, answered and said."""
    assert say("items", folder, "--wrong") == (
        0,
        "q4  wrong  core · addition · hard\n  question  4 + 1 = ?\n  expected  5\n  answered  no\n  raw text  so\n"
        "            Answer: no\n\n1 of 5 items shown, 1 wrong in all; trust level L0\n",
        "",
    )


def test_the_text_around_every_question_is_said_once(folder: Path, say: Callable[..., Said]) -> None:
    """A line at the end where all share it; each item's own text where one has another."""

    def asked(frames: list[str]) -> str:
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for n, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            row["prompt"] = frame.format(f"{n} + 1 = ?")
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return say("items", folder)[1]

    out = asked(["Q: {}\nA:"] * 5)
    assert "\n\neach question was asked as: Q: ⟨question⟩⏎A:\n\n" in out
    assert "asked as  " not in out
    out = asked(["Q: {}\nA:"] * 4 + ["Say 5. {}"])
    assert "each question" not in out
    assert "  asked as  Say 5. 4 + 1 = ?\n" in out


def test_items_as_json(folder: Path, say: Callable[..., Said]) -> None:
    """The document has every field of every item that is chosen."""
    code, out, _ = say("items", folder, "--category", "addition", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["ok"], document["trust_level"], document["n_items"], document["n_wrong"]) == (True, "L0", 5, 1)
    assert document["items"][4] == {
        "id": "q4", "question": "4 + 1 = ?", "asked": "4 + 1 = ?\n", "expected": "5", "answered": "no", "text": "so\nAnswer: no",
        "score": 0.0, "section": "core", "category": "addition", "difficulty": "hard", "finish_reason": "eos",
        "verdict": "wrong",
    }  # fmt: skip


def test_a_category_that_no_item_has(folder: Path, say: Callable[..., Said]) -> None:
    """U147 with the similar one."""
    code, out, err = say("items", folder, "--category", "additon")
    assert (code, out) == (2, "")
    assert err.startswith('error[U147]: there is no category "additon"\n   = help: did you mean "addition"?\n')


def test_categories_are_listed_where_they_are_few(folder: Path, say: Callable[..., Said]) -> None:
    """A word that is near to none: the hint has all that there are, or where to find them."""
    assert "there are: addition\n" in say("items", folder, "--category", "geometry")[2]
    items = [json.loads(line) for line in (folder / "eval_set.jsonl").read_text().splitlines()]
    for item in items:
        item["category"] = "a very long name of a category" * 2 + item["id"]
    (folder / "eval_set.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    assert f"`runspec items {folder}` shows each item's category" in say("items", folder, "--category", "geometry")[2]


@pytest.mark.parametrize("command", ["items", "report", "score"])
def test_one_file_of_an_evidence_folder_is_not_evidence(folder: Path, say: Callable[..., Said], command: str) -> None:
    """U157 with the folder that is meant: a tired reader names the file that is open in the browser."""
    code, out, err = say(command, folder / "report.html")
    assert (code, out) == (2, "")
    assert err.startswith(f"error[U157]: {folder / 'report.html'} is one file of the evidence in its folder\n")
    assert f"name the folder: {folder}\n" in err


def test_a_metric_that_there_is_not(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """K101, exit code 2 and what there is: nothing is wrong with the evidence. Of files the same."""
    for words in (
        (package(folder, here / "submission", "toy"),),
        (folder,),
        (folder / "predictions.jsonl", folder / "eval_set.jsonl"),
    ):
        code, out, err = say("score", *words, "--metric", "exact")
        assert (code, out) == (2, "")
        assert err.startswith('error[K101]: there is no metric "exact"\n')
        assert "answer_correctness@v1" in err


def test_swapped_files_to_score(folder: Path, say: Callable[..., Said]) -> None:
    """The sentence says which is which, and the command to type."""
    predictions, eval_set = folder / "predictions.jsonl", folder / "eval_set.jsonl"
    code, _, err = say("score", eval_set, predictions)
    assert code == 2
    assert f"error[U103]: runspec score: {eval_set} is an eval set, and {predictions} has predictions\n" in err
    assert f"the other way round: runspec score {predictions} {eval_set}" in err
    assert say("score", predictions, eval_set)[0] == 0


def test_a_score_that_comes_out_again(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """Of a folder and of its zip: the figures side by side, the sentence, exit code 0."""
    archive = package(folder, here / "submission", "toy")
    for evidence in (folder, archive):
        code, out, err = say("score", evidence)
        assert (code, err) == (0, "")
        assert out.startswith(
            f"answer_correctness@v1 80.0 % over 5 items, 1 not right: runspec items {evidence} --wrong\n"
            "                      scored again  recorded\n"
            "  n_items             5             5\n"
        )
        assert "  primary_score       0.8000        0.8000\n" in out
        assert out.endswith("as recorded: the scorecard and all 5 verdicts\n")


def test_a_score_as_json(folder: Path, say: Callable[..., Said]) -> None:
    """The new scorecard, the recorded one, and no difference."""
    code, out, _ = say("score", folder, "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["differences"], document["trust_level"]) == (0, True, [], "L0")
    assert document["recorded"] == document["scorecard"] == json.loads((folder / "scorecard.json").read_text())
    assert [row["correct"] for row in document["items"]] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [("scorecard.json", '"primary_score": 0.8', '"primary_score": 1.0', "scorecard.json: primary_score is 1.0, recomputed 0.8"),
     ("predictions.jsonl", "Answer: no", "Answer: 5", "scorecard.json: category_scores is {'addition': 0.8}, recomputed {'addition': 1.0}"),
     ("eval_set.jsonl", '"expected_answer": "1"', '"expected_answer": "2"', "category_scores is {'addition': 0.8}, recomputed {'addition': 0.6}")],
)  # fmt: skip
def test_a_score_that_does_not(
    folder: Path, say: Callable[..., Said], name: str, old: str, new: str, says: str
) -> None:
    """A changed score, answer or expected answer: U156 with the difference, both numbers in the table, exit code 5."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    code, out, err = say("score", folder)
    assert code == 5
    assert err.startswith(f"error[U156]: {folder} records another score than its predictions give: ")
    assert says in err
    assert "error[U148]" in err
    assert "as recorded" not in out


def test_another_metric_is_compared_with_nothing(
    folder: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence records another one: no difference is made up, and an unknown metric is refused."""
    known = METRICS["answer_correctness@v1"]
    monkeypatch.setitem(METRICS, "other@v1", replace(known, id="other@v1"))
    code, out, _ = say("score", folder, "--metric", "other@v1")
    assert code == 0
    assert out.endswith("not compared: the evidence records another metric\n")
    code, _, err = say("score", folder, "--metric", "nothing@v1")
    assert code != 0
    assert "nothing@v1" in err


def test_predictions_without_an_eval_set(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """A JSONL file alone cannot be scored: U103 says what is missing; both together are scored."""
    rows, asked = here / "rows.jsonl", here / "asked.jsonl"
    shutil.copy(folder / "predictions.jsonl", rows)
    shutil.copy(folder / "eval_set.jsonl", asked)
    code, _, err = say("score", rows)
    assert (code, err.split("\n")[0]) == (2, "error[U103]: runspec score: EVAL_SET is missing")
    assert say("score", rows, asked)[0] == 0


def test_no_character_of_a_stranger_reaches_the_terminal(folder: Path, say: Callable[..., Said]) -> None:
    """Escape sequences and reordering in ids, categories and texts are spelled, and the exit code says: not verified."""
    evil = "\x1b[2J\r\u202etrust level L3\x9b"
    for name, keys in (("predictions.jsonl", ("id", "text")), ("eval_set.jsonl", ("id", "prompt", "category"))):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        rows[0].update(dict.fromkeys(keys, evil))
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = say("items", folder)
    assert code == 5
    assert out.startswith("<U+001B>[2J<U+000D><U+202E>trust level L3<U+009B>  wrong  core · <U+001B>[2J")
    assert {character for character in out + err if not character.isprintable()} == {"\n"}
    assert err.startswith(f"error[U148]: {folder} is NOT verified: V")


def test_a_report_is_written_here_and_written_again(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """Its name is the evidence's; the second time it replaces its own file with the same bytes."""
    code, out, _ = say("report", folder)
    page = here / "toy_v1.report.html"
    first = page.read_bytes()
    assert (code, out) == (0, f"toy_v1.report.html: {len(first)} bytes, trust level L0\n")
    assert say("report", folder)[0] == 0
    assert page.read_bytes() == first
    assert sorted(path.name for path in here.iterdir()) == ["toy_v1.report.html"]


def test_a_report_of_a_zip(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """Named after the zip, whatever is inside."""
    archive = package(folder, here.parent / "submission", "toy")
    code, out, _ = say("report", archive, "--json")
    assert code == 0
    assert json.loads(out)["report"] == f"{archive.stem}.report.html"
    assert (here / f"{archive.stem}.report.html").is_file()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_report_for_somebody_who_trusts_a_key(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """With ``--trust`` the page has who signed, and the level that this gives for that reader; without it the level is L0."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", here / "key"], check=True)
    (here / "keys").write_text(f"ann@example.org {(here / 'key.pub').read_text()}")
    inside = (folder / "report.html").read_bytes()
    assert say("sign", folder, "--key", here / "key")[0] == 0
    assert "trust level L1" in say("report", folder, "--trust", here / "keys")[1]
    page = (here / "toy_v1.report.html").read_text()
    assert "Trust level L1: the files agree" in page
    assert "ann@example.org" in page
    assert "trust level L0" in say("report", folder)[1]
    assert (folder / "report.html").read_bytes() == inside


def test_a_report_of_changed_evidence_is_written_and_exits_with_five(
    folder: Path, here: Path, say: Callable[..., Said]
) -> None:
    """The page names the check, and so does standard error."""
    (folder / "eval_summary.json").write_text("{}")
    code, out, err = say("report", folder)
    assert code == 5
    assert out.endswith("trust level none\n")
    assert "error[U148]" in err
    assert b"NOT verified" in (here / "toy_v1.report.html").read_bytes()


def test_a_page_never_lies_among_evidence(folder: Path, say: Callable[..., Said]) -> None:
    """U146, and the folder is as it was."""
    before = sorted(path.name for path in folder.iterdir())
    code, _, err = say("report", folder, "--out", folder / "report.html")
    assert (code, err.split(":")[0]) == (2, "error[U146]")
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_that_is_not_a_report_is_not_replaced(
    folder: Path, here: Path, say: Callable[..., Said], is_folder: bool
) -> None:
    """U146 for a file of the person's own, and for a folder."""
    mine = here / "thesis.html"
    if is_folder:
        mine.mkdir()
    else:
        mine.write_text("<!doctype html>years of work")
    code, _, err = say("report", folder, "--out", mine)
    assert code == 2
    assert err.startswith(f"error[U146]: {mine} is there already and is not a report")
    assert mine.is_dir() if is_folder else mine.read_text() == "<!doctype html>years of work"


def test_a_folder_that_cannot_be_written(folder: Path, here: Path, say: Callable[..., Said]) -> None:
    """U115 where a file is in the way of the page's folder."""
    (here / "file").write_text("x")
    code, _, err = say("report", folder, "--out", here / "file" / "page.html")
    assert (code, err.split(":")[0]) == (1, "error[U115]")


def test_the_browser_gets_the_page(
    folder: Path, here: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--open`` gives the page's address to the browser; no browser is needed to test that."""
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not asked.append(address))
    code, out, _ = say("report", folder, "--open", "--json")
    assert (code, json.loads(out)["opened"]) == (0, True)
    assert asked == [(here / "toy_v1.report.html").as_uri()]


def test_a_run_is_named_by_its_version(
    folder: Path, tmp_path: Path, say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its project, ``toy_v1`` is submission_runs/toy_v1; a run without evidence is U145, an unknown one U112."""
    monkeypatch.chdir(tmp_path)
    for name in ("toy_v1", "toy_v2"):
        Journal(journal_path(tmp_path / ".runspec", name)).append("run_started")
    assert say("items", "toy_v1")[0] == 0
    code, _, err = say("items", "toy_v2")
    assert (code, err.split(":")[0]) == (4, "error[U145]")
    code, _, err = say("items", "toy_v3")
    assert (code, err.split(":")[0]) == (2, "error[U112]")


@pytest.mark.parametrize("command", ["items", "report", "score"])
def test_what_is_not_evidence(here: Path, folder: Path, say: Callable[..., Said], command: str) -> None:
    """A zip that is none and evidence without predictions for ``items`` are U149, a missing path U114, an empty folder X322."""
    (here / "bad.zip").write_bytes(b"PK\x03\x04 cut in the middle")
    (here / "empty").mkdir()
    for word, code, error in (("bad.zip", 5, "U149"), ("gone.zip", 2, "U114"), ("empty", 2, "X322")):
        said = say(command, word)
        assert (said[0], said[2].split(":")[0]) == (code, f"error[{error}]")
    half = shutil.copytree(folder, here / "half")
    (half / "predictions.jsonl").unlink()
    code, _, err = say(command, half)
    assert (code, err.split(":")[0]) == (5, "error[U148]" if command == "report" else "error[U149]")
    assert not (here / "bad.report.html").exists()
