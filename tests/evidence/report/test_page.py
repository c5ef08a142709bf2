"""The page has everything, says what it does not have, and does what it shows for a stranger's text too."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.evidence import Verification, package, verify
from engine.evidence.bundle import read_bundle
from engine.evidence.report import MARKER, report_page
from tests.evidence.report.parsed import Page
from tests.fixtures import version_1

REPOSITORY = Path(__file__).resolve().parents[3]
QUICKSTART = version_1.EVIDENCE


def made(path: Path) -> bytes:
    return report_page(read_bundle(path), verify(path))


def test_result_groups_and_trust_level_are_in_words(folder: Path) -> None:
    """Four of five right: the score, Wilson's interval, each group, and that nobody vouches."""
    shown = Page(made(folder)).shown()
    assert "80.0 % answer_correctness@v1 over 5 items: 1 wrong" in shown
    assert "95 % interval 37.6 % to 96.4 % (Wilson)" in shown
    assert "easy 3 0 100.0 % 43.9 % to 100.0 %" in shown
    assert "hard 2 1 50.0 % 9.5 % to 90.5 %" in shown
    assert (
        "Trust level L0, unsigned: the files agree with each other, and the score follows from the answers; that the"
        in shown
    )
    assert "that the run happened is not proved." in shown
    assert "L0 it agrees with itself shown Proves: the files agree" in shown
    assert "L1 somebody signed it next Proves: somebody you trust signed exactly these files. Found: unsigned" in shown
    assert "L2 a platform witnessed it not shown Proves" in shown
    assert "highest 1 (step 1), last 0.25 (step 4)" in shown
    assert "Linux x86_64, 2 CPUs" in shown


def test_every_item_is_there_with_its_texts(folder: Path) -> None:
    """Question, expected, answered and raw text of each item, line by line, and its verdict as a class for the filter."""
    page = Page(made(folder))
    texts = [text for n in range(4) for text in (f"{n} + 1 = ?", f"{n + 1}", f"{n + 1}", f"so\nAnswer: {n + 1}")]
    assert page.answers == [*texts, "4 + 1 = ?", "5", "no", "so\nAnswer: no"]
    assert page.classes()["item"] == 5
    assert page.classes()["right"] == 4


def test_the_filter_is_css_and_names_what_it_hides(folder: Path) -> None:
    """A control and a rule for wrong, right and each category; the items have the class that the rule names."""
    page = made(folder)
    controls = {str(attrs["id"]): attrs["name"] for tag, attrs in Page(page).elements if tag == "input"}
    assert controls == dict.fromkeys(("show-all", "show-wrong", "show-right"), "show") | dict.fromkeys(
        ("c-all", "c-0"), "category"
    )
    assert b"#show-wrong:checked ~ ol > .right, #show-right:checked ~ ol > .wrong { display: none; }" in page
    assert b"#c-0:checked ~ ol > .c0 { display: block; }" in page
    assert Page(page).classes()["c0"] == 5


def test_the_page_asks_nothing_and_runs_nothing(folder: Path) -> None:
    """No script, no handler, no address but its own anchors; every anchor has its target; nesting and ids are sound."""
    page = Page(made(folder))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    links = [attrs[name] or "" for _, attrs in page.elements for name in ("href", "src") if name in attrs]
    assert {tag for tag, _ in page.elements} & {"script", "iframe", "img", "object", "embed", "form", "base"} == set()
    assert [name for _, attrs in page.elements for name in attrs if name.startswith("on")] == []
    assert {link for link in links if link[:1] != "#"} == {"data:,"}
    assert {link[1:] for link in links if link[:1] == "#"} <= set(ids)
    labels = [attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs]
    assert set(labels) <= set(ids)
    assert len(ids) == len(set(ids))
    assert (page.misnested, page.open) == ([], [])


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_has_contrast_in_light_in_dark_and_on_paper(folder: Path) -> None:
    """Every colour of text has 4.5 to 1 on the page and on a panel (WCAG 2 AA)."""
    palettes = re.findall(r":root \{([^}]*)\}", made(folder).decode())
    assert len(palettes) == 3
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", palette))
        for name in ("text", "quiet", "curve", "right", "wrong"):
            for ground in ("back", "panel"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground, colours[name])


HOSTILE = '</pre><script>alert(1)</script><img src=x onerror="x">\x1b[2J\u202egnp\x00 {{ 7*7 }}'
SPELLED = '</pre><script>alert(1)</script><img src=x onerror="x"><U+001B>[2J<U+202E>gnp<U+0000> {{ 7*7 }}'


def test_a_strangers_text_is_text(folder: Path, edit: Callable[..., None]) -> None:
    """Markup, control characters and reordering in any value are shown and never act: in items, groups, record, file names."""
    for name, key in (("eval_set.jsonl", "prompt"), ("eval_set.jsonl", "category"), ("predictions.jsonl", "text")):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        rows[0][key] = HOSTILE
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit(folder / "run_record.json", lambda record: record.update(run_version=HOSTILE, eval_set=HOSTILE))
    edit(folder / "run_manifest.json", lambda manifest: manifest.update(notes=HOSTILE))
    (folder / "<b>.json").write_text("{}")
    page = Page(made(folder))
    assert {tag for tag, _ in page.elements} & {"script", "img", "b.json"} == set()
    assert page.answers[0] == SPELLED
    assert page.answers[3] == SPELLED
    assert page.text.count("<U+202E>") >= 6
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert (page.misnested, page.open) == ([], [])


def test_line_breaks_and_spaces_of_the_model_are_kept(folder: Path) -> None:
    """What a ``pre`` would swallow at its beginning, too: the style of an answer keeps every line and space."""
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    first = {**json.loads(lines[0]), "text": "\n\n  Answer:   1\n"}
    (folder / "predictions.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    page = made(folder)
    assert b"<dd>\n\n  Answer:   1\n</dd>" in page
    assert re.search(rb"\.item dd \{[^}]*white-space: pre-wrap", page)


def test_the_wrong_answers_stand_near_the_top(folder: Path) -> None:
    """Before the curves, each with a link to its item; long texts are cut there and whole below."""
    question = "why? " * 100
    rows = [json.loads(line) for line in (folder / "eval_set.jsonl").read_text().splitlines()]
    rows[4]["prompt"] = question
    (folder / "eval_set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(made(folder))
    shown = page.shown()
    listed = shown[shown.index("item question expected answered") : shown.index("by train step")]
    assert listed.startswith("item question expected answered q4 why? why?")
    assert "why?… 5 no" in listed
    assert "#i5" in [attrs.get("href") for _, attrs in page.elements]
    assert question in page.answers


def test_what_was_really_asked_is_shown_once_or_for_each(folder: Path) -> None:
    """One frame of all questions is said above the items; where a question has another, each item has its text."""
    lines = (folder / "predictions.jsonl").read_text().splitlines()

    def asked(frames: list[str]) -> Page:
        rows = [{**json.loads(lines[n]), "prompt": frame.format(f"{n} + 1 = ?")} for n, frame in enumerate(frames)]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Page(made(folder))

    page = asked(["Q: {}\nA:"] * 5)
    assert page.pres[0] == "\nQ: ⟨question⟩\nA:"
    assert "asked as" not in page.shown()
    page = asked(["{}\n"] * 5)
    assert "⟨question⟩" not in page.text  # a line break alone is no news
    page = asked(["Q: {}\nA:"] * 4 + ["Say 5. {}"])
    assert page.shown().count("asked as") == 5
    assert "Say 5. 4 + 1 = ?" in page.answers
    assert "⟨question⟩" not in page.text


def test_no_wrong_answer_is_said(folder: Path) -> None:
    """An empty list would leave a reader in doubt."""
    text = (folder / "predictions.jsonl").read_text()
    (folder / "predictions.jsonl").write_text(text.replace("Answer: no", "Answer: 5"))
    assert "Wrong answers None: every answer is right." in Page(made(folder)).shown()


def test_many_wrong_answers_are_counted(folder: Path) -> None:
    """The list has thirty; the page says of how many, and where the others are."""
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    items = [json.loads(line) for line in (folder / "eval_set.jsonl").read_text().splitlines()]
    for name, last in (("predictions.jsonl", rows[4]), ("eval_set.jsonl", items[4])):
        copies = "".join(json.dumps({**last, "id": f"w{n}", "prompt": f"{n}?"}) + "\n" for n in range(40))
        (folder / name).write_text(copies)
    shown = Page(made(folder)).shown()
    assert "These are the first 30 of 40. The filter of the items shows all." in shown


def test_evidence_that_fails_says_so_first(folder: Path) -> None:
    """A changed score: NOT verified and every failed check come before the score, and no level is reached."""
    summary = folder / "eval_summary.json"
    summary.write_text(summary.read_text().replace('"primary_score": 0.8', '"primary_score": 1.0'))
    shown = Page(made(folder)).shown()
    before = shown[shown.index("Environment Files") : shown.index("80.0 % answer_correctness")]
    failed = verify(folder).failed
    assert before.startswith("Environment Files NOT verified.")
    assert {check.id for check in failed} >= {"V02"}
    assert [check.id for check in failed if f"{check.id} {check.title}: {check.detail}" not in before] == []
    assert "Trust level" not in shown
    assert "No trust level: a check failed." in shown
    assert "itself not shown Proves" in shown
    assert "it next Proves" not in shown


@pytest.mark.parametrize(
    ("name", "says"),
    [("eval_set.jsonl", "The items cannot be shown: eval_set.jsonl is missing"),
     ("predictions.jsonl", "The result cannot be shown: predictions.jsonl is missing"),
     ("metrics.jsonl", "The curves cannot be shown: metrics.jsonl is missing"),
     ("run_record.json", "The environment cannot be shown: run_record.json is missing"),
     ("run_manifest.json", "The run cannot be shown: run_manifest.json is missing"),
     ("runspec.yaml", "The run-spec cannot be shown: runspec.yaml is missing")],
)  # fmt: skip
def test_what_cannot_be_read_is_named(folder: Path, name: str, says: str) -> None:
    """A missing file takes its own parts from the page, with the reason, and no other."""
    (folder / name).unlink()
    page = Page(made(folder))
    assert says in page.shown()
    assert "NOT verified" in page.shown()
    assert (page.misnested, page.open) == ([], [])


@pytest.mark.parametrize(
    "value", ["null", "[]", "{}", '{"steps": 7}', "[" * 600 + "]" * 600, '{"a": 1' + "0" * 400 + "}"]
)
def test_no_value_of_a_file_stops_the_page(folder: Path, value: str) -> None:
    """Each file in turn has a value of another form; what the checks say of it is tested elsewhere."""
    bundle, none = read_bundle(folder), Verification(ok=False, trust_level=None, checks=())
    for name in bundle.files:
        page = Page(report_page(replace(bundle, files={**bundle.files, name: value.encode()}), none))
        assert "NOT verified" in page.shown()
        assert (page.misnested, page.open) == ([], [])


def test_an_item_without_a_prediction_and_one_in_no_category(folder: Path) -> None:
    """It counts 0, says so, and its group's table says how many items name none."""
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    rows[0]["text"] = None
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [json.loads(line) for line in (folder / "eval_set.jsonl").read_text().splitlines()]
    del items[0]["category"]
    (folder / "eval_set.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    shown = Page(made(folder)).shown()
    assert "60.0 % answer_correctness@v1 over 5 items: 2 wrong (1 of them without a prediction)" in shown
    assert "no prediction: it counts 0" in shown
    assert "1 of 5 items name no category." in shown


def test_folder_and_zip_give_the_same_items(folder: Path, tmp_path: Path) -> None:
    """The page of the zip is the page of the folder."""
    assert made(package(folder, tmp_path / "submission", "toy")) == made(folder)


def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Another hash seed, time zone, locale and folder: the same bytes, under 400 kB for the quickstart's 100 items."""
    page = made(QUICKSTART)
    out = tmp_path / "page.html"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONUTF8": "0",
                   "PYTHONPATH": str(REPOSITORY)}  # fmt: skip
    command = [sys.executable, "-m", "engine", "report", str(QUICKSTART), "--out", str(out)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert out.read_bytes() == page
    assert len(page) <= 400_000
    assert MARKER in page[:512]
    assert Page(page).classes()["item"] == 100
