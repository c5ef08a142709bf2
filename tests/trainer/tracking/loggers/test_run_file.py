"""What two processes share of a tool's run: it comes back as it was written, or a new run begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.trainer.tracking.loggers.run_file import RunFile


def test_a_second_process_goes_on_with_the_run(tmp_path: Path) -> None:
    first = RunFile(tmp_path / "wandb.json")
    first.record_sent(7)
    again = RunFile(tmp_path / "wandb.json")
    assert (again.id, again.sent, again.is_new) == (first.id, 7, False)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"id": "a", "sent": "seven"}', '{"id": "a", "sent": []}', "CHANGED"]
)
def test_a_file_that_is_not_what_was_written_is_none(tmp_path: Path, text: str) -> None:
    """A wrong number of sent train steps would leave a hole in the curve."""
    path = tmp_path / "wandb.json"
    first = RunFile(path)
    first.record_sent(7)
    path.write_text(path.read_text().replace('"sent": 7', '"sent": 9') if text == "CHANGED" else text)
    again = RunFile(path)
    assert (again.sent, again.is_new) == (0, True)
    assert again.id != first.id
