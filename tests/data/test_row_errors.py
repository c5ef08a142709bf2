"""Golden messages: what a person reads for each way a row can be wrong."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from engine.data import read_rows
from engine.errors import InputInvalid

PAIR = '{"prompt": "p", "completion": "c"}'
STEPS = '"steps": ["s"], "final_answer": "1"'

# name, format, lines, the message in full
GOLDEN = [
    (
        "bad_json", "prompt_completion", [PAIR, '{"prompt": "a" "completion": "b"}'],
        """error[D107]: not valid JSON: "," or the closing bracket expected, found `"` (column 16)
  --> mine.jsonl:2:16
   |
 2 | {"prompt": "a" "completion": "b"}
   |                ^
   = help: a quote inside a text is written \\\"""",
    ),
    (
        "cut_off", "prompt_completion", ['{"prompt": "a",'],
        """error[D107]: not valid JSON: the line ends too early (column 16)
  --> mine.jsonl:1:16
   |
 1 | {"prompt": "a",
   |                ^
   = help: is the object spread over several lines? JSONL has one object a line""",
    ),
    (
        "single_quotes", "prompt_completion", ["{'prompt': 'a'}"],
        """error[D107]: not valid JSON: a single quote (column 2)
  --> mine.jsonl:1:2
   |
 1 | {'prompt': 'a'}
   |  ^
   = help: JSON uses double quotes: "…\"""",
    ),
    (
        "two_objects", "prompt_completion", [PAIR + PAIR],
        """error[D107]: not valid JSON: more text after the end of the object (column 35)
  --> mine.jsonl:1:35
   |
 1 | {"prompt": "p", "completion": "c"}{"prompt": "p", "completion": "c"}
   |                                   ^
   = help: one object a line""",
    ),
    (
        "array", "prompt_completion", [f"[{PAIR}]"],
        """error[D108]: the line is a list, not an object
  --> mine.jsonl:1:1
   |
 1 | [{"prompt": "p", "completion": "c"}]
   | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = help: this is JSON, not JSONL: write each element on a line of its own""",
    ),
    (
        "twin_key", "prompt_completion", ['{"prompt": "a", "prompt": "b", "completion": "c"}'],
        """error[D109]: two values for the key "prompt" in one object
  --> mine.jsonl:1
   |
 1 | {"prompt": "a", "prompt": "b", "completion": "c"}
   = help: keep one of them""",
    ),
    (
        "nan", "prompt_completion", ['{"prompt": "a", "completion": "b", "weight": NaN}'],
        """error[D110]: NaN is not a JSON number
  --> mine.jsonl:1
   |
 1 | {"prompt": "a", "completion": "b", "weight": NaN}
   = help: write a number, or null""",
    ),
    (
        "surrogate", "prompt_completion", [r'{"prompt": "a\ud83d", "completion": "b"}'],
        r"""error[D111]: a lone surrogate: this is half of a pair, not a character
  --> mine.jsonl:1:14
   |
 1 | {"prompt": "a\ud83d", "completion": "b"}
   |              ^^^^^^
   = help: write the character itself, or both halves of the pair""",
    ),
    (
        "utf8", "prompt_completion", [b'{"prompt": "caf\xe9", "completion": "b"}'],
        """error[D106]: invalid UTF-8: byte 0xE9 at column 16
  --> mine.jsonl:1:16
   = help: save the file as UTF-8""",
    ),
    (
        "bom", "prompt_completion", [b"\xef\xbb\xbf" + PAIR.encode()],
        """error[D105]: the file begins with a byte order mark (the three bytes EF BB BF)
  --> mine.jsonl:1
   = help: save it as UTF-8 without BOM""",
    ),
    (
        "utf16", "prompt_completion", [PAIR.encode("utf-16")],
        """error[D105]: the file begins with the byte order mark of UTF-16
  --> mine.jsonl:1
   = help: convert it: iconv -f UTF-16 -t UTF-8 mine.jsonl > mine.rows.jsonl""",
    ),
    (
        "utf32", "prompt_completion", [PAIR.encode("utf-32")],
        """error[D105]: the file begins with the byte order mark of UTF-32
  --> mine.jsonl:1
   = help: convert it: iconv -f UTF-32 -t UTF-8 mine.jsonl > mine.rows.jsonl""",
    ),
    (
        "blank_line", "prompt_completion", [PAIR, "", PAIR],
        """error[D113]: blank line between rows
  --> mine.jsonl:2
   = help: delete it, or restore the row that was there""",
    ),
    (
        "empty_file", "prompt_completion", [],
        """error[D104]: mine.jsonl is empty
  --> mine.jsonl
   = help: one JSON object a line is expected""",
    ),
    (
        "binary", "prompt_completion", [b"PK\x03\x04\x00\x00"],
        """error[D116]: mine.jsonl is a zip archive or a spreadsheet
  --> mine.jsonl
   = help: unpack it: unzip mine.jsonl""",
    ),
    (
        "appended", "prompt_completion", [PAIR, b"\xef\xbb\xbf" + PAIR.encode()],
        """error[D105]: a byte order mark inside the file: another file was appended here
  --> mine.jsonl:2:1
   = help: remove the three bytes EF BB BF at this line's beginning""",
    ),
    (
        "csv", "prompt_completion", ["prompt,completion", *["a,b"] * 60],
        """error[D116]: mine.jsonl is CSV, not JSONL (columns: prompt, completion)
  --> mine.jsonl
   = help: convert it with pandas: python -c 'import pandas; pandas.read_csv('"'"'mine.jsonl'"'"')."""
        """to_json('"'"'mine.rows.jsonl'"'"', orient='"'"'records'"'"', lines=True, force_ascii=False)'""",
    ),
    (
        "pretty", "prompt_completion", ["{", '  "prompt": "a",', '  "completion": "b"', "}"] * 30,
        """error[D116]: mine.jsonl is JSON whose objects are spread over several lines, not JSONL
  --> mine.jsonl
   = help: write each object on one line: jq -c . mine.jsonl > mine.rows.jsonl""",
    ),
    (
        "list_over_lines", "prompt_completion", ["[", f"  {PAIR},", f"  {PAIR}", "]"],
        """error[D116]: mine.jsonl is one JSON list over several lines, not JSONL
  --> mine.jsonl
   = help: write each element on a line of its own: jq -c '.[]' mine.jsonl > mine.rows.jsonl""",
    ),
    (
        "missing_near", "prompt_completion", ['{"promt": "a", "completion": "b"}'],
        """error[D120]: the row has no "prompt"
  --> mine.jsonl:1:2
   |
 1 | {"promt": "a", "completion": "b"}
   |  ^^^^^^^
   = help: did you mean "promt"? Fix the row, or map it: fields: {prompt: promt}""",
    ),
    (
        "missing_far", "prompt_completion", ['{"question": "a", "completion": "b"}'],
        """error[D120]: the row has no "prompt"
  --> mine.jsonl:1:1
   |
 1 | {"question": "a", "completion": "b"}
   | ^
   = help: the row has: question, completion""",
    ),
    (
        "number_answer", "trace", ['{"prompt": "a", "steps": ["s"], "final_answer": 42}'],
        """error[D121]: "final_answer" is a number, not a text
  --> mine.jsonl:1:33
   |
 1 | {"prompt": "a", "steps": ["s"], "final_answer": 42}
   |                                 ^^^^^^^^^^^^^^
   = help: write it in quotes: "42\"""",
    ),
    (
        "empty_answer", "trace", ['{"prompt": "a", "steps": ["s"], "final_answer": " "}'],
        """error[D122]: "final_answer" is empty
  --> mine.jsonl:1:33
   |
 1 | {"prompt": "a", "steps": ["s"], "final_answer": " "}
   |                                 ^^^^^^^^^^^^^^
   = help: delete the row, or fill it in""",
    ),
    (
        "bos_in_text", "prompt_completion", ['{"prompt": "<bos>a", "completion": "b"}'],
        """error[D123]: "prompt" contains "<bos>", which a tokenizer reads as a control token
  --> mine.jsonl:1:2
   |
 1 | {"prompt": "<bos>a", "completion": "b"}
   |  ^^^^^^^^
   = help: remove it: the engine adds <bos>, <eos> and the turn markers itself, once""",
    ),
    (
        "trace_version", "trace", [f'{{"trace_version": "2.0", "prompt": "a", {STEPS}}}'],
        """error[D124]: unknown trace_version '2.0'
  --> mine.jsonl:1:2
   |
 1 | {"trace_version": "2.0", "prompt": "a", "steps": ["s"], "final_answer": "1"}
   |  ^^^^^^^^^^^^^^^
   = help: this engine reads "1.0\"""",
    ),
    (
        "step_number", "trace",
        ['{"prompt": "a", "steps": [{"i": 1, "content": "x"}, {"i": 3, "content": "y"}], "final_answer": "1"}'],
        """error[D125]: "steps[1].i" is 3, expected 2
  --> mine.jsonl:1:17
   |
 1 | {"prompt": "a", "steps": [{"i": 1, "content": "x"}, {"i": 3, "content": "y"}], "final_answer": "1"}
   |                 ^^^^^^^
   = help: number the steps 1, 2, 3, …""",
    ),
    (
        "no_steps", "trace", ['{"prompt": "a", "steps": [], "final_answer": "1"}'],
        """error[D126]: "steps" has no step
  --> mine.jsonl:1:17
   |
 1 | {"prompt": "a", "steps": [], "final_answer": "1"}
   |                 ^^^^^^^
   = help: a trace without reasoning is a prompt_completion row""",
    ),
    (
        "answer_twice", "trace", ['{"prompt": "a", "steps": ["s"], "final_answer": "Answer: 2"}'],
        """error[D127]: "final_answer" begins with "Answer:"
  --> mine.jsonl:1:33
   |
 1 | {"prompt": "a", "steps": ["s"], "final_answer": "Answer: 2"}
   |                                 ^^^^^^^^^^^^^^
   = help: write the answer alone; the engine adds "Answer:\"""",
    ),
    (
        "weight", "chat", ['{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]}'],
        """error[D132]: "messages[1].weight" is 0.5, expected 0 or 1
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]}
   |  ^^^^^^^^^^
   = help: an answer is trained or it is not: write 0 or 1""",
    ),
    (
        "tool_calls", "chat", ['{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [{}]}]}'],
        """error[D133]: "messages[1].tool_calls" has a call that the answer consists of: it cannot be left out
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [{}]}]}
   |  ^^^^^^^^^^
   = help: write what the model shall answer as text, or delete the row""",
    ),
    (
        "parts", "chat", ['{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]}'],
        """error[D121]: "messages[0].content" is a list of parts (text, image), not one text
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]}
   |  ^^^^^^^^^^
   = help: write the message as one text: "…\"""",
    ),
    (
        "unknown_role", "chat", ['{"messages": [{"role": "human", "content": "a"}]}'],
        """error[D128]: unknown role 'human'
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "human", "content": "a"}]}
   |  ^^^^^^^^^^
   = help: did you mean "user"?""",
    ),
    (
        "role_order", "chat", ['{"messages": [{"role": "assistant", "content": "a"}]}'],
        """error[D129]: "messages[0]" is a assistant turn, expected user
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "assistant", "content": "a"}]}
   |  ^^^^^^^^^^
   = help: an optional system message, then user and assistant in turn""",
    ),
    (
        "no_assistant", "chat", ['{"messages": [{"role": "user", "content": "a"}]}'],
        """error[D130]: the conversation has no assistant turn
  --> mine.jsonl:1:2
   |
 1 | {"messages": [{"role": "user", "content": "a"}]}
   |  ^^^^^^^^^^
   = help: there is nothing in it to train on""",
    ),
    (
        "same_id", "trace", [f'{{"id": "t", "prompt": "a", {STEPS}}}', f'{{"id": "t", "prompt": "b", {STEPS}}}'],
        """error[D131]: line 1 has the id "t" already
  --> mine.jsonl:2:2
   |
 2 | {"id": "t", "prompt": "b", "steps": ["s"], "final_answer": "1"}
   |  ^^^^
   = help: give each trace an id of its own, or none""",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("form", "lines", "message"), [g[1:] for g in GOLDEN], ids=[g[0] for g in GOLDEN])
def test_each_bad_row_has_its_message(jsonl, complaint, form, lines, message):
    """File, line, column, the person's own line, a code and what to do."""
    assert complaint(read_rows, jsonl(*lines), form) == message.replace("a assistant", "an assistant")


def test_every_bad_row_is_reported_and_the_good_ones_do_not_hide_them(jsonl):
    lines = [
        '{"prompt": "a", "completion": "b"}',
        "{",
        "[]",
        '{"prompt": 1}',
        '{"prompt": "a", "completion": ""}',
    ]
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(*lines), "prompt_completion")
    found = [(d.code, d.where.line, d.where.path) for d in caught.value.diagnostics]
    assert found == [
        ("D107", 2, ""), ("D108", 3, ""), ("D121", 4, "prompt"), ("D120", 4, "completion"), ("D122", 5, "completion"),
    ]  # fmt: skip


def test_beyond_the_limit_the_errors_are_counted(jsonl):
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(*["{}"] * 10), "prompt_completion", limit_errors=3)
    assert [(row.code, row.message) for row in caught.value.diagnostics[3:]] == [
        ("D199", 'and 8 more of the same, up to line 10: the row has no "prompt"'),
        ("D199", 'and 9 more of the same, up to line 10: the row has no "completion"'),
    ]


def test_of_one_error_in_every_line_three_are_shown_and_other_errors_are_not_buried(jsonl):
    lines = ['{"messages": [{"role": "user"}]}'] * 60 + ["{"]
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(*lines), "chat")
    found = [(row.code, row.where.line) for row in caught.value.diagnostics]
    assert found == [("D120", 1), ("D120", 2), ("D120", 3), ("D107", 61), ("D199", 0)]
    assert (
        caught.value.diagnostics[-1].message == 'and 57 more of the same, up to line 60: "messages[0]" has no "content"'
    )


def test_errors_of_many_kinds_are_counted_beyond_the_limit(jsonl):
    lines = [json.dumps({"prompt": "a", "completion": "b", "id": f"x{at}", "weight": 1}) for at in range(4)]
    lines = [line.replace("}", f', "k{at}": 1, "k{at}": 2}}') for at, line in enumerate(lines)]
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(*lines), "prompt_completion", limit_errors=2)
    assert [row.message for row in caught.value.diagnostics[2:]] == ["and 2 more errors in this file"]


@pytest.mark.parametrize(
    ("form", "fields", "code", "hint"),
    [
        ("traces", {}, "D117", 'did you mean "trace"?'),
        ("chat", {"mesages": "m"}, "D118", 'did you mean "messages"?'),
        (
            "prompt_completion",
            {"prompt": "t", "completion": "t"},
            "D119",
            "each field is read from a key of its own",
        ),
    ],
)
def test_a_wrong_format_or_mapping_is_refused_before_the_file_is_read(form, fields, code, hint):
    with pytest.raises(InputInvalid) as caught:
        read_rows(Path("no such file"), form, fields)
    assert (caught.value.code, caught.value.hint) == (code, hint)


def test_a_missing_file_a_folder_and_a_path_with_nul_are_told_apart(tmp_path):
    codes = []
    for path in (tmp_path / "none.jsonl", tmp_path, Path("a\0b")):
        with pytest.raises(InputInvalid) as caught:
            read_rows(path, "trace")
        codes.append(caught.value.code)
    assert codes == ["D101", "D102", "D101"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_says_so(jsonl):
    path = jsonl("{}")
    path.chmod(0)
    with pytest.raises(InputInvalid) as caught:
        read_rows(path, "trace")
    assert caught.value.code == "D103"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[" * 100_000, "D114"),
        ('{"prompt": ' + "[" * 70 + "]" * 70 + "}", "D114"),
        ('{"prompt": "a", "completion": "b", "n": ' + "9" * (sys.get_int_max_str_digits() + 1) + "}", "D115"),
        ('{"prompt": "a", "completion": "b", "n": 1e999}', "D110"),
        ('{"prompt": "' + "a" * (4 << 20) + '"}', "D112"),
    ],
    ids=["bottomless", "deep", "digits", "overflow", "long"],
)
def test_monstrous_lines_are_findings_and_the_next_line_is_still_read(jsonl, line, code):
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(line, "{"), "prompt_completion")
    assert [(d.code, d.where.line) for d in caught.value.diagnostics] == [(code, 1), ("D107", 2)]


def test_a_long_line_is_quoted_only_near_the_error(jsonl):
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl('{"prompt": "' + "a" * 500 + '", oops}'), "prompt_completion")
    (finding,) = caught.value.diagnostics
    assert finding.where.text is None
    assert finding.where.column == 516
    assert finding.message.endswith('near `aaaaaaaaaaaaaaaaaaaaa", oops}`')


def test_what_a_terminal_would_act_on_is_not_printed(jsonl, complaint):
    text = complaint(read_rows, jsonl(b'{"prompt": "\x1b[2J"}'), "prompt_completion")
    assert "\x1b" not in text
    assert "a control character inside a text" in text
