"""Training rows of conversations, by templates of all styles, against transformers' own ``apply_chat_template``.

The law: a row's ids are those of ``apply_chat_template`` up to the end of its last trained answer, then EOS unless a token
ended the turn; and the prompt of a question with its history is how the row begins.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.data import Conversation, DatasetRow, Message, render_row
from engine.errors import InputInvalid
from engine.trainer.generation.prompts import encode_prompts, read_prompts
from engine.trainer.input_pipeline.rows import RowFindings, TokenRow, token_rows
from engine.trainer.text.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[2] / "fixtures" / "gemma_like"
TALK = ("A?", "B", "Second\nquestion?", "D d", "E?", "F.")  # no text that merges with the template's around it
EACH = "{{ bos_token }}{% for m in messages %}"
ASK = "{% endfor %}{% if add_generation_prompt %}"
# How answers end: as letters, as line breaks, with nothing, with EOS, with a token of their own, in generation blocks.
TEMPLATES = {
    "ChatML in letters": EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + ASK
    + "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "### Q and A": EACH + "{{ '### ' + ('Q' if m.role == 'user' else 'A') + '\n' + m.content + '\n\n' }}" + ASK
    + "{{ '### A\n' }}{% endif %}",
    "no end at all": EACH + "{{ '[' + m.content + ']' if m.role == 'user' else m.content }}{% endfor %}",
    "EOS": EACH + "{{ '[' + m.content + ']' if m.role == 'user' else m.content + eos_token }}{% endfor %}",
    "EOS and a line break": EACH + "{{ 'U ' + m.content + '\n' if m.role == 'user' else 'A' + m.content + eos_token + '\n' }}"
    + ASK + "A{% endif %}",
    "a token of its own": EACH + "{{ '<unused0>' + m.role + '\n' + m.content + '<unused1>\n' }}" + ASK
    + "{{ '<unused0>assistant\n' }}{% endif %}",
    "generation blocks": EACH + "{% if m.role == 'user' %}{{ 'Q: ' + m.content + '\nA: ' }}{% else %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{{ '\n' }}{% endif %}{% endfor %}",
    "Gemma's": (FOLDER / "chat_template.jinja").read_text(encoding="utf-8"),
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(FOLDER)


def talk(*contents: str, untrained: Sequence[int] = ()) -> Conversation:
    turns = [("user", "assistant")[at % 2] for at in range(len(contents))]
    return Conversation(
        tuple(
            Message(role, text, at not in untrained)
            for at, (role, text) in enumerate(zip(turns, contents, strict=True))
        )
    )  # type: ignore[arg-type]


def row_of(body: Conversation, tokenizer: Tokenizer) -> TokenRow:
    """Through rows.jsonl, as in the pipeline."""
    findings = RowFindings("rows.jsonl")
    rows = token_rows(json.dumps(render_row(DatasetRow("r", body)).as_json()).encode(), 1, tokenizer, findings)
    findings.raise_if_any()
    return rows[0]


def asked(body: Conversation, tokenizer: Tokenizer, folder: Path) -> list[int]:
    """The ids of a question with its history, through the prompt file."""
    path = folder / "prompts.jsonl"
    path.write_text(json.dumps({"id": "i", "prompt": "not used", "messages": body.as_json()["messages"]}) + "\n")
    (ids,) = encode_prompts(read_prompts(path), tokenizer)
    return ids


def messages_of(body: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in body.messages]


@pytest.mark.parametrize("n_turns", [2, 4, 6])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_row_is_what_transformers_makes(
    theirs: Any, with_template: Callable[[str], Tokenizer], name: str, n_turns: int
) -> None:
    """Equal ids, and nothing after them but the one EOS that a row without an end of turn needs."""
    tokenizer, body = with_template(TEMPLATES[name]), talk(*TALK[:n_turns])
    wanted = theirs.apply_chat_template(
        messages_of(body), chat_template=TEMPLATES[name], tokenize=True, return_dict=False
    )
    row = row_of(body, tokenizer)
    ids, added = list(row.tokens), []
    if name in ("ChatML in letters", "### Q and A", "no end at all", "generation blocks"):
        ids, added = ids[:-1], ids[-1:]
        assert added == [tokenizer.eos_id]
    assert ids == wanted[: len(ids)]
    rest = tokenizer.decode(wanted[len(ids) :])
    assert rest in ("", "\n"), "only white space after the last answer is left out"
    assert name != "ChatML in letters" or ids == wanted
    assert row.loss_mask[-1] == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_question_with_history_is_how_the_row_begins(
    with_template: Callable[[str], Tokenizer], tmp_path: Path, name: str
) -> None:
    """After one, two and three questions; the next token of the row is trained."""
    tokenizer = with_template(TEMPLATES[name])
    row = row_of(talk(*TALK), tokenizer)
    for n_turns in (1, 3, 5):
        prompt = asked(talk(*TALK[:n_turns]), tokenizer, tmp_path)
        assert list(row.tokens[: len(prompt)]) == prompt
        assert (row.loss_mask[len(prompt) - 1], row.loss_mask[len(prompt)]) == (0, 1)


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_with_weight_0_changes_the_mask_alone(with_template: Callable[[str], Tokenizer], name: str) -> None:
    """The ids are those of the full conversation; the second answer's tokens are not trained."""
    tokenizer = with_template(TEMPLATES[name])
    full, part = row_of(talk(*TALK), tokenizer), row_of(talk(*TALK, untrained=[3]), tokenizer)
    assert part.tokens == full.tokens
    begin = len(row_of(talk(*TALK[:2]), tokenizer).tokens)
    second = [at for at, (a, b) in enumerate(zip(full.loss_mask, part.loss_mask, strict=True)) if a != b]
    assert second == list(range(second[0], second[-1] + 1))
    assert "D" in tokenizer.decode([full.tokens[at] for at in second])
    assert "B" not in tokenizer.decode([full.tokens[at] for at in second])
    assert second[0] >= begin - 1


def test_a_row_ends_after_its_last_trained_answer(with_template: Callable[[str], Tokenizer]) -> None:
    """With weight 0 for the last answers, the row is that of the conversation before them."""
    tokenizer = with_template(TEMPLATES["Gemma's"])
    assert row_of(talk(*TALK, untrained=[3, 5]), tokenizer) == row_of(talk(*TALK[:2]), tokenizer)


REWRITES = EACH + (
    "{% if m.role == 'user' %}{{ '[' + m.content + ']' }}{% else %}"
    "{{ m.content if loop.last else 'earlier answer' }}{% endif %}{% endfor %}"
)


def test_an_answer_that_is_not_trained_may_be_rewritten(with_template: Callable[[str], Tokenizer]) -> None:
    """A template that shortens earlier answers is refused where they are trained, and usable where they are not."""
    tokenizer = with_template(REWRITES)
    with pytest.raises(InputInvalid) as caught:
        row_of(talk(*TALK[:4]), tokenizer)
    assert caught.value.diagnostics[0].code == "M307"
    row = row_of(talk(*TALK[:4], untrained=[1]), tokenizer)
    trained = [token for token, on in zip(row.tokens, row.loss_mask, strict=True) if on]
    assert tokenizer.decode(row.tokens) == "[A?]earlier answer[Second\nquestion?]D d"
    assert tokenizer.decode(trained) == "D d"


def test_no_template_sees_the_key_train(with_template: Callable[[str], Tokenizer]) -> None:
    """It is this engine's: a template that prints whole messages prints role and content."""
    tokenizer = with_template(
        EACH + "{{ m | tojson }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    assert tokenizer.chat is not None
    (piece, *_) = tokenizer.chat.segments([{"role": "user", "content": "u", "train": False}])
    assert piece.text == '{"role": "user", "content": "u"}'
