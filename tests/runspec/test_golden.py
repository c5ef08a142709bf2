"""Golden messages: what a person reads for each mistake, to the letter."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).with_name("golden.txt")


def recorded() -> dict[str, str]:
    """Name of the case -> its text in golden.txt."""
    blocks = GOLDEN.read_text(encoding="utf-8").split("##### ")[1:]
    return {block.split("\n", 1)[0]: block.split("\n", 1)[1].rstrip("\n") for block in blocks}


@pytest.fixture(scope="module")
def rendered(cases: ModuleType) -> dict[str, str]:
    found: dict[str, str] = cases.rendered()
    return found


@pytest.mark.parametrize("name", sorted(recorded()))
def test_the_message_is_the_recorded_one(name: str, rendered: dict[str, str]) -> None:
    """Every finding of the case: position, own line, caret, code, fix."""
    assert rendered[name] == recorded()[name]


def test_there_are_at_least_sixty_different_messages_and_none_is_empty(rendered: dict[str, str]) -> None:
    """Each case of the table is recorded, and each says something."""
    assert sorted(rendered) == sorted(recorded())
    assert all(text.strip() for text in rendered.values())
    assert len({text.split("\n", 1)[0] for text in rendered.values()}) >= 60
