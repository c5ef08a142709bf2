"""The words of a recorded command are read as the command line reads them."""

from __future__ import annotations

import pytest

from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.errors import InputInvalid
from engine.pipeline.run_words import unread_words

IDS = ("dataset", "train")


@pytest.mark.parametrize("line", [
    "run a.yaml", "run --quiet a.yaml", "run a.yaml train.seed=1 --force train notes=x --json", "run a.yaml --force=all --force train",
    "run a.yaml --from train --to train --plain --commit", "run --only train -- a.yaml", "run a.yaml --only=train", "run -- a.yaml train.seed=1",
])  # fmt: skip
def test_what_the_command_line_takes_is_read(line: str) -> None:
    """Without a finding."""
    assert parse(line.split(), COMMANDS)[0].name == "run"
    assert list(unread_words(line.split(), IDS)) == []


@pytest.mark.parametrize("line", [
    "run", "run a.yaml b.yaml", "run a.yaml --gpus 8xH100", "run a.yaml --quiet=1", "run a.yaml word", "run a.yaml --from", "rnu a.yaml",
    "run a.yaml -- b.yaml", "run a.yaml -x",
])  # fmt: skip
def test_what_the_command_line_refuses_is_a_finding(line: str) -> None:
    """No record can have it."""
    with pytest.raises(InputInvalid):
        parse(line.split(), COMMANDS)
    assert list(unread_words(line.split(), IDS))


@pytest.mark.parametrize(
    "line",
    ["verify a.zip", "run a.yaml --from nosuch", "run a.yaml --to all", "run a.yaml --only train --only dataset"],
)
def test_what_no_run_with_evidence_was_started_with_is_a_finding(line: str) -> None:
    """Another command, a step that the run-spec does not have."""
    assert list(unread_words(line.split(), IDS))
