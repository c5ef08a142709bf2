"""Bad tokenizers, templates and conversations: the whole text of each error as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.rows import RowFindings, token_rows
from engine.trainer.text.encoding import row_segments
from engine.trainer.text.stop_tokens import read_generation_config, stop_ids
from engine.trainer.text.tokenizer import Tokenizer, build_chars

Make = Callable[[str | None], Tokenizer]
HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
AGAIN = [*HI, {"role": "user", "content": "more"}, {"role": "assistant", "content": "no"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *HI]
EACH = "{% for m in messages %}{{ m.content }}{% endfor %}"
BROKEN = "error[M305]: the model's chat template cannot be used: "
CORRECT = "= help: correct the template, or remove it from the model folder: gemma_chat@v1 is used then"


def said(error: InputInvalid) -> str:
    """The text without the spaces of its layout."""
    return " ".join(str(error).split())


def test_a_tokenizer_without_bos(gemma_files: dict[str, bytes]) -> None:
    """M303: the vocabulary does not have what tokenizer_config.json calls BOS."""
    settings = json.loads(gemma_files["tokenizer_config.json"]) | {"bos_token": "<s>"}
    with pytest.raises(InputInvalid) as caught:
        Tokenizer(gemma_files | {"tokenizer_config.json": json.dumps(settings).encode()}, source="m/tokenizer.json")
    assert said(caught.value) == (
        "error[M303]: the vocabulary has no bos_token '<s>' --> m/tokenizer.json "
        '= help: name it as "bos_token" in tokenizer_config.json'
    )


@pytest.mark.parametrize(
    ("template", "messages", "reason"),
    [
        ("{% for %}", HI, "Expected an expression, got 'end of statement block'"),
        ("{{ messages[7].content }}", HI, "UndefinedError: list object has no element 7"),
        ("{{ messages[0].content + 1 }}", HI, 'TypeError: can only concatenate str (not "int") to str'),
        ("{{ messages.append(1) }}", HI, "SecurityError: access to attribute 'append' of"),
        ("{% set n = namespace(_a=1) %}", HI, "SecurityError: a namespace cannot hold '_a'"),
        (
            "{{ strftime_now('%d') }}",
            HI,
            "TemplateRuntimeError: it uses today's date (strftime_now), so that a training row would differ from "
            "tomorrow's prompt; write a fixed date into it",
        ),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_used(
    with_template: Make, template: str, messages: list[dict[str, str]], reason: str
) -> None:
    """M305 with Jinja's own message."""
    with pytest.raises(InputInvalid) as caught:
        row_segments([], messages, with_template(template))
    assert said(caught.value).startswith(BROKEN + reason)
    assert said(caught.value).endswith(CORRECT)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([{"name": "rag", "template": "x"}, {"name": "tool_use", "template": "y"}], "none of rag, tool_use is called default"),
        (7, "it is not a string"),
    ],
)  # fmt: skip
def test_an_inline_template_of_another_kind(gemma_files: dict[str, bytes], value: object, reason: str) -> None:
    """M305 names what is wrong with it."""
    files = {name: data for name, data in gemma_files.items() if name != "chat_template.jinja"}
    settings = json.loads(files["tokenizer_config.json"]) | {"chat_template": value}
    with pytest.raises(InputInvalid) as caught:
        Tokenizer(files | {"tokenizer_config.json": json.dumps(settings).encode()})
    assert said(caught.value) == f"{BROKEN}{reason} --> tokenizer.json {CORRECT}"


def test_of_several_templates_the_default_is_used(gemma_files: dict[str, bytes]) -> None:
    """As transformers does."""
    files = {name: data for name, data in gemma_files.items() if name != "chat_template.jinja"}
    named = [{"name": "rag", "template": "{{ broken"}, {"name": "default", "template": EACH}]
    settings = json.loads(files["tokenizer_config.json"]) | {"chat_template": named}
    chat = Tokenizer(files | {"tokenizer_config.json": json.dumps(settings).encode()}).chat
    assert chat is not None
    assert [part.text for part in chat.segments(HI)] == ["hi", "ho"]


def test_a_template_that_is_not_utf8(gemma_files: dict[str, bytes]) -> None:
    with pytest.raises(InputInvalid, match=r"M305.*chat_template\.jinja is not UTF-8"):
        Tokenizer(gemma_files | {"chat_template.jinja": b"\xff"})


def test_a_template_with_a_byte_order_mark(gemma_files: dict[str, bytes]) -> None:
    """The mark would be the first letter of every conversation, before BOS."""
    with pytest.raises(InputInvalid, match=r"M305.*chat_template\.jinja begins with a byte order mark"):
        Tokenizer(gemma_files | {"chat_template.jinja": b"\xef\xbb\xbf" + gemma_files["chat_template.jinja"]})


def test_a_template_at_fault_is_one_error_and_not_one_a_row(with_template: Make) -> None:
    """The first row that shows it is named; a refused conversation (M306) stays a finding of its row."""
    row = {"id": "a", "segments": [{"text": "x", "train": True}], "messages": HI}
    lines = b"".join(json.dumps({**row, "id": f"r{at}"}).encode() + b"\n" for at in range(30))
    findings = RowFindings("rows.jsonl")
    with pytest.raises(InputInvalid) as caught:
        token_rows(lines, 1, with_template("{{ strftime_now('%d') }}"), findings)
    (found,) = caught.value.diagnostics
    assert (found.code, findings.total) == ("M305", 0)
    assert found.message.endswith('(first at row "r0", line 1)')


def test_a_refused_system_turn(maker: object, with_template: Make) -> None:
    """M306: the template's own message, and a hint."""
    chat = with_template(maker.STRICT_TEMPLATE).chat  # type: ignore[attr-defined]
    assert chat is not None
    with pytest.raises(InputInvalid) as caught:
        chat.segments(SYSTEM)
    assert said(caught.value) == (
        "error[M306]: the model's chat template refuses the conversation: there is no system turn "
        "= help: put the system text at the beginning of the first question"
    )


def test_turns_out_of_order_are_refused(tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """M306: the fixture's template requires user and assistant in turn."""
    chat = tokenizers_by_name["gemma"].chat
    assert chat is not None
    with pytest.raises(InputInvalid, match=r"M306.*must take turns"):
        chat.segments([*HI, *HI[1:]])


FORGETS = "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else 'forgotten' }};{% endfor %}"
THINKS = (
    "{% for m in messages %}{{ m.content if m.role == 'user' else '<think>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)
LATE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}model:"
    "{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(("template", "messages", "number"), [(FORGETS, AGAIN, 2), (THINKS, HI, 2), (LATE, HI, 2)])
def test_a_template_that_differs_between_training_and_generation(
    with_template: Make, template: str, messages: list[dict[str, str]], number: int
) -> None:
    """M307: it drops earlier answers, begins an answer differently, or begins a generation block too late."""
    chat = with_template(template).chat
    assert chat is not None
    with pytest.raises(InputInvalid) as caught:
        chat.segments(messages)
    assert said(caught.value) == (
        f"error[M307]: the model's chat template renders the conversation up to message {number} differently for "
        "training and for generation --> tokenizer.json = help: generation would start from a text that training never "
        "used; shorten the conversation to one question and one answer, or give the template generation blocks"
    )


def test_a_template_that_writes_bos_twice(with_template: Make) -> None:
    """M308: the engine adds BOS at the beginning, once."""
    chat = with_template("{% for m in messages %}{{ bos_token + m.content }}{% endfor %}").chat
    assert chat is not None
    with pytest.raises(InputInvalid) as caught:
        chat.segments(HI)
    assert said(caught.value) == (
        "error[M308]: the model's chat template writes <bos> inside a conversation, and not only at its beginning "
        "--> tokenizer.json = help: remove it from the template: the engine adds it at the beginning, once"
    )


def test_private_characters_of_all_kinds(tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """A message may hold private characters, they are kept; only one that holds all of them is refused (M306)."""
    chat = tokenizers_by_name["gemma"].chat
    assert chat is not None
    every = "".join(map(chr, range(0x10FF00, 0x10FFF0)))
    some = every[:20]
    assert chat.segments([{"role": "user", "content": f"{some}<bos>"}, HI[1]])[0].text.endswith(some)
    with pytest.raises(InputInvalid, match=r"M306.*private-use"):
        chat.segments([{"role": "user", "content": every}, HI[1]])


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_broken_generation_config(tmp_path: Path, text: str) -> None:
    """M309 names the file."""
    (tmp_path / "generation_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputInvalid, match=r"M309[\s\S]*generation_config\.json"):
        read_generation_config(tmp_path)


@pytest.mark.parametrize("value", [True, "1", 260, -1, [1, None]])
def test_an_end_outside_the_vocabulary(value: object) -> None:
    """M309: generation would never stop there."""
    with pytest.raises(InputInvalid, match="M309"):
        stop_ids(build_chars(), {"eos_token_id": value})


def test_where_answers_end(tokenizers_by_name: dict[str, Tokenizer], with_template: Make, tmp_path: Path) -> None:
    """EOS, <end_of_turn>, the template's own end of turn, and what generation_config.json names."""
    assert read_generation_config(tmp_path) == {}
    assert stop_ids(tokenizers_by_name["chars"], {}) == (1,)
    assert stop_ids(tokenizers_by_name["gemma"], {"eos_token_id": 1}) == (1, 10)
    assert stop_ids(tokenizers_by_name["gemma"], {"eos_token_id": [1, 6]}) == (1, 6, 10)
    chatty = "{% for m in messages %}<unused0>{{ m.content }}<unused1>\n{% endfor %}"
    assert stop_ids(with_template(chatty + "{% if add_generation_prompt %}<unused0>{% endif %}"), {}) == (1, 6, 10)
