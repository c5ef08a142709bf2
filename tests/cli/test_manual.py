"""`runspec docs`: topics, pages and error codes in the terminal."""

from __future__ import annotations

import re

import pytest

from engine.assets import asset
from engine.commands import manual

T114 = """\
# T114

All rows are longer than seq_len.

What to do: raise seq_len.

All codes: `runspec docs errors`.
"""


def test_the_topics_are_listed_by_part(runspec):
    """Without a topic each page has a line with its name and its first sentence, below its part; JSON has the same."""
    done, document = runspec("docs"), runspec("docs", "--json").document
    assert (done.code, done.err) == (0, "")
    names = [row["topic"] for row in document["topics"]]
    listed = re.findall(r"^  ([\w-]+)  +\S", done.out, re.MULTILINE)
    assert listed == names
    assert [line for line in done.out.splitlines() if line in manual.PARTS.values()] == [
        words for part, words in manual.PARTS.items() if part in {row["part"] for row in document["topics"]}
    ]
    row = next(row for row in document["topics"] if row["topic"] == "own-data")
    assert row == {
        "topic": "own-data",
        "part": "how-to",
        "title": "Train on your own data",
        "about": "Point the run-spec at a JSONL file, name its format, and check it before you train.",
        "path": "how-to/own-data.md",
    }


@pytest.mark.parametrize("name", ["own-data", "how-to/own-data", "how-to/own-data.md", "docs/how-to/own-data.md"])
def test_a_page_is_printed_as_markdown_into_a_pipe(runspec, name):
    """A topic is a page's name or its address; in a pipe the page's own bytes are the answer."""
    done = runspec("docs", name)
    assert (done.code, done.err) == (0, "")
    assert done.out == (asset("docs") / "how-to" / "own-data.md").read_text(encoding="utf-8")
    document = runspec("docs", name, "--json").document
    assert document == {"ok": True, "topic": "own-data", "path": "how-to/own-data.md", "text": done.out.rstrip("\n")}


def test_a_page_is_drawn_on_a_terminal(runspec, monkeypatch):
    """On a terminal the page is drawn: headings and tables, no Markdown marks, no line beyond the width."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    out = runspec("docs", "less-memory").out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert plain != out
    assert "Train in less memory" in plain
    assert "|---|" not in plain
    assert "```" not in plain
    assert max(map(len, plain.splitlines())) <= 90


def test_the_marks_of_generated_parts_are_not_drawn():
    """What `make reference` leaves in a page is nothing for a reader."""
    assert "made" not in manual.rendered("# A\n\n<!-- made: x -->\n\ntext\n\n<!-- end of x -->\n", 80)


def test_an_old_address_leads_to_the_new_pages(runspec):
    """A page that moved can still be named; it prints where its text is now and is not listed."""
    assert "(how-to/several-devices.md)" in runspec("docs", "devices").out
    assert "devices" not in [row["topic"] for row in runspec("docs", "--json").document["topics"]]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("own-dta", 'there is no topic "own-dta"', 'did you mean "own-data"?'),
        ("xyzzyxyzzy", 'there is no topic "xyzzyxyzzy"', "`runspec docs` lists the topics"),
        ("T999", 'there is no error code "T999"', "`runspec docs errors` lists them"),
    ],
)
def test_an_unknown_topic_is_an_error_with_a_suggestion(runspec, name, message, hint):
    """U110, and what to type instead."""
    done = runspec("docs", name, "--json")
    [finding] = done.document["diagnostics"]
    assert done.code == 2
    assert finding["code"] == "U110"
    assert finding["message"].startswith(message)
    assert finding["hint"] == hint or (name == "T999" and finding["hint"].startswith("did you mean"))


@pytest.mark.parametrize("name", ["T114", "t114"])
def test_an_error_code_prints_its_row(runspec, name):
    """The meaning, what to do, and the page that has all codes."""
    assert runspec("docs", name).out == T114
    document = runspec("docs", name, "--json").document
    assert document == {"ok": True, "topic": "T114", "path": "reference/errors.md", "text": T114.rstrip("\n")}


def test_the_links_of_a_row_are_topics(runspec):
    """A page that the row links to can be typed."""
    assert "Resume (`runspec docs resume`)" in runspec("docs", "T120").out


def test_every_error_code_can_be_asked_for(runspec):
    """Each row of the reference is found, and has a sentence."""
    rows = manual.error_rows()
    assert len(rows) > 100
    assert [code for code in rows if runspec("docs", code).code != 0] == []


def test_an_error_says_where_to_read_more_once(runspec, project):
    """After all errors, one line names the first of their codes that has a row; with --json there is none."""
    (project / "bad.yaml").write_text("version: 1\nmodle: {}\nmodel: {id: x, idd: y}\n")
    done = runspec("validate", "bad.yaml")
    assert done.err.count("error[") > 2
    first = re.search(r"error\[(\w+)\]", done.err)
    assert first
    assert done.err.endswith(f"\nmore: runspec docs {first[1]}\n")
    assert done.err.count("more:") == 1
    assert runspec("validate", "bad.yaml", "--json").err == ""


def test_a_warning_alone_says_nothing_more(runspec, repository):
    """A command that succeeds ends as it did."""
    assert "more:" not in runspec("validate", str(repository / "runspecs" / "quickstart.yaml")).err


@pytest.mark.parametrize("name", ["exit codes", "Exit Codes", "exit_codes", "exit-codes"])
def test_a_topic_is_found_by_its_words(runspec, name):
    assert runspec("docs", name, "--json").document["topic"] == "exit-codes"


def test_a_part_lists_its_pages(runspec):
    """`how-to` is a folder of pages, those that extend the engine among them."""
    document = runspec("docs", "how-to", "--json").document
    assert {row["part"] for row in document["topics"]} == {"how-to", "how-to/extend"}
    assert runspec("docs", "how-to").out.startswith(manual.PARTS["how-to"])


def test_a_word_that_is_no_topic_leads_to_the_pages_that_say_it(runspec):
    hint = runspec("docs", "quota", "--json").document["diagnostics"][0]["hint"]
    assert hint.startswith('pages that say "quota": ')
    for name in hint.splitlines()[0].partition(": ")[2].split(", "):
        assert "quota" in manual.find(name).text().lower()
    assert runspec("docs", "zzqq", "--json").document["diagnostics"][0]["hint"] == "`runspec docs` lists the topics"


def test_help_takes_json_like_every_command(runspec):
    assert "run" in runspec("--help", "--json").document["commands"]
    assert runspec("--help", "run", "--json").document["help"].startswith("usage: runspec run SPEC")
    assert runspec("help", "run", "--json").document == runspec("run", "--help", "--json").document
