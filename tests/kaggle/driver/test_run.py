"""A run on Kaggle from one command: pushed, watched, fetched, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kaggle.driver.stand_ins import finished, log_of
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script


def test_one_command_ends_with_verified_evidence(run: Any, project: Path, kaggle: Platform, tmp_path: Path) -> None:
    """Pushed once, looked at until it is over, fetched, packed, verified; the notebook and its version are named."""
    kaggle.script(Script(files=finished(tmp_path), log=log_of, queued_polls=1, running_polls=1))
    done = run("--json")
    assert done.code == 0, done.err + done.out
    document = done.document
    assert (document["state"], document["version"]) == ("done", 1)
    assert (project / document["evidence"] / "run_record.json").is_file()
    assert (project / document["package"]).is_file()
    assert [one.operation for one in kaggle.requests].count("SaveKernel") == 1
