"""Golden messages: what a person reads for each mistake, to the letter."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from engine.runspec import check_spec
from engine.steps.registry import HANDLERS

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


@pytest.mark.parametrize(
    "notes",
    [
        "10\u00a0000 lignes \u2013 \u201cbien\u201d",
        "\u8bad\u7ec3\uff1a\u4e00\u6b21\uff0c\u5b8c",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u201cquoted\u201d from the first word",
        "'\u200b in quotes'",
        "a # comment\u00a0with: \uff1a",
    ],
)
def test_text_may_have_any_character(notes: str, cases: ModuleType, tmp_path: Path) -> None:
    """A sentence in French, Chinese or Persian is no mistake, and a mistake elsewhere is not blamed on it."""
    for name in (".runspec", "runspecs", "evalsets"):
        (tmp_path / name).mkdir()
    (tmp_path / "evalsets" / "items.jsonl").write_text("{}\n")
    good = cases.GOOD.replace("run_version: good_v1\n", f"run_version: good_v1\nnotes: {notes}\n")
    path = tmp_path / "runspecs" / "spec.yaml"
    path.write_text(good, encoding="utf-8")
    assert check_spec(path, kinds=HANDLERS) == []
    path.write_text(good.replace("model:\n", "model\n"), encoding="utf-8")
    assert [(finding.code, finding.where and finding.where.line) for finding in check_spec(path, kinds=HANDLERS)] == [
        ("Y015", 5)
    ]
