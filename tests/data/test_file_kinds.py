"""Files of another kind than JSONL: one finding that says what they are and how to convert them."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile

import pytest

from engine.data import check_dataset, check_eval_set
from engine.file_kinds import PROBE_BYTES, kind_of

ROW = {"prompt": "a, b", "completion": "c"}
ROWS = [ROW] * 60


def text_of(path, kind):
    path.write_text(kind, encoding="utf-8")
    return path


FILES = {
    "rows.parquet": (lambda p: p.write_bytes(b"PAR1" + bytes(300)), "a Parquet file", "read_parquet('\"'\"'{}'\"'\"')"),
    "rows.arrow": (lambda p: p.write_bytes(b"ARROW1\0\0" + bytes(300)), "an Arrow file", "read_feather"),
    "rows.jsonl.gz": (lambda p: p.write_bytes(gzip.compress(b"{}\n")), "compressed", "gunzip {}"),
    "rows.csv": (lambda p: text_of(p, "prompt,completion\n" + "a,b\n" * 60), "CSV, not JSONL", "to_json"),
    "rows.tsv": (lambda p: text_of(p, "prompt\tcompletion\n" + "a\tb\n" * 60), "TSV, not JSONL", "sep="),
    "quoted.csv": (lambda p: text_of(p, '"prompt","completion"\n' + '"a","b"\n' * 60), "CSV, not JSONL", "read_csv"),
    "list.json": (
        lambda p: text_of(p, json.dumps(ROWS, indent=2)),
        "one JSON list over several lines",
        "jq -c '.[]' {}",
    ),
    "big.json": (lambda p: text_of(p, json.dumps(ROWS * 99, indent=1)), "one JSON list over several lines", "jq"),
    "objects.json": (
        lambda p: text_of(p, "\n".join(json.dumps(row, indent=4) for row in ROWS)),
        "JSON whose objects are spread over several lines",
        "jq -c . {}",
    ),
    "one.json": (
        lambda p: text_of(p, json.dumps({"data": ROWS * 99}, indent=2)),
        "JSON whose objects are spread",
        "jq",
    ),
    "page.jsonl": (lambda p: text_of(p, "<!DOCTYPE html>\n<html>\n"), "an HTML page", "download the file itself"),
    "lfs.jsonl": (
        lambda p: text_of(p, "version https://git-lfs.github.com/spec/v1\noid x\n"),
        "a pointer",
        "git lfs pull",
    ),
    "notes.txt": (lambda p: text_of(p, "Once upon a time\n" * 60), "text of another kind", "export it as JSONL"),
    "rows.yaml": (lambda p: text_of(p, "- prompt: a\n  completion: b\n" * 60), "text of another kind", "export it"),
    "rows.db": (lambda p: p.write_bytes(b"SQLite format 3\0" + bytes(99)), "a SQLite database", "export it as JSONL"),
    "commas.json": (
        lambda p: text_of(p, ",\n".join(json.dumps(row) for row in ROWS)),
        "a list whose lines end in a comma, not JSONL",
        "sed 's/,$//' {}",
    ),
    "python.txt": (
        lambda p: text_of(p, "\n".join(map(repr, ROWS))),
        "written as Python writes objects, not JSONL",
        "ast.literal_eval",
    ),
    "rows.pkl": (lambda p: p.write_bytes(pickle.dumps(ROWS)), "a pickle of Python", "read_pickle"),
    "rows.lz4": (lambda p: p.write_bytes(b"\x04\x22\x4d\x18" + bytes(99)), "compressed", "lz4 -d {}"),
    "rows.bin": (lambda p: p.write_bytes(bytes(range(256))), "a binary file", "export it as JSONL"),
}


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", "{}\n")


FILES["rows.xlsx"] = (_zip, "a zip archive or a spreadsheet", "unzip {}")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_one_finding(tmp_path, name):
    """Its kind, and a command with its name that makes JSONL of it; for rows and eval sets alike."""
    write, what, command = FILES[name]
    path = tmp_path / name
    write(path)
    (rows,), (items,) = check_dataset(path, "prompt_completion").diagnostics, check_eval_set(path).diagnostics
    assert (rows.code, items.code) == ("D116", "D216")
    assert rows.message.startswith(f"{path} is {what}")
    assert command.format(path) in (rows.hint or "")
    assert (items.message, items.hint) == (rows.message, rows.hint)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROW),
        json.dumps(ROWS),
        '{"prompt": "a",\n{"prompt": "b"}\n',
        "{'prompt': 'a, b'}\n",
        '{"prompt": "cut',
        "{",
        "[" * 100_000 + "\n{",
        '"a", "b"}\n{}\n',
        "null\n1\n",
        "\n\n",
        "prose\n{}\n",
    ],
)
def test_lines_that_may_be_rows_are_left_to_the_reader(text):
    """A broken line, a list in one line, a single quote: each has a message of its own, with its line."""
    assert kind_of(text.encode()[:PROBE_BYTES], "rows.jsonl") is None


def test_text_that_people_need_is_shown_as_it_is(jsonl):
    """Joiners of Persian and of emoji, soft hyphens, no-break and wide spaces are text, not damage; controls are named."""
    answer = "می\u200cخواهم 👩\u200d💻 Donau\u00addampf 10\u00a0km\u3000\u202f.\ufeff\u200f\x85\u202e"
    report = check_dataset(jsonl({"prompt": "a\u200bb", "completion": answer}), "prompt_completion")
    shown = answer.replace("\x85", "<U+0085>").replace("\u202e", "<U+202E>")
    assert report.as_json()["sample"]["text"] == f"<bos>a\u200bb\n[trained>{shown}<eos><trained]"
    assert "\N{REPLACEMENT CHARACTER}" not in report.text()
