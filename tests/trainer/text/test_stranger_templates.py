"""A model's chat template is a stranger's program: one that hangs or grows is a finding of its own, before anything is trained."""

from __future__ import annotations

import pytest

from engine.errors import InputInvalid, RunspecError, render
from engine.trainer.text.chat_template import ChatTemplate
from tests.ground.test_sandbox import EXCEEDED, REFUSED

ASKED = [{"role": "user", "content": "Hi"}]


def asked(text: str) -> None:
    """Render one question with the template."""
    template = ChatTemplate(text, variables={"bos_token": "<bos>"}, added={"<bos>": True}, source="chat_template.jinja")
    template.segments(ASKED, ask=True)


@pytest.mark.parametrize(
    "name", ["a macro without end", "doubled by ~", "brackets", "a wide format", "a squared number"]
)
def test_an_attack_is_a_finding_that_names_the_limit(name: str) -> None:
    """Law: code M320, whether it is too much to read or to render."""
    with pytest.raises(InputInvalid) as refused:
        asked(EXCEEDED[name])
    assert refused.value.code == "M320"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXCEEDED, *REFUSED])
def test_every_attack_is_a_finding(name: str) -> None:
    """Law: M320 for what goes over a limit, M305 for what no template may do."""
    with pytest.raises(RunspecError) as refused:
        asked(EXCEEDED.get(name) or REFUSED[name])
    assert refused.value.code == ("M320" if name in EXCEEDED else "M305")


def test_the_message_says_what_to_do() -> None:
    """Law: the complete text as a person reads it."""
    with pytest.raises(InputInvalid) as refused:
        asked("{{ 'a' * 10000000 }}")
    assert render(refused.value.diagnostics[0]) == (
        "error[M320]: the model's chat template goes over the limits for a stranger's program: it builds more than "
        "4000000 characters\n"
        "  --> chat_template.jinja\n"
        "   = help: correct the template, or remove it from the model folder: gemma_chat@v1 is used then"
    )
