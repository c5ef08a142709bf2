"""One command, from the run-spec to evidence that Kaggle would make L2, with the generated notebook run by a real kernel: nothing stands in but the platform."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.kaggle.driver import watch
from engine.kaggle.driver.api.pacing import Backoff
from tests.kaggle.driver.stand_ins import level_where_this_is_kaggle
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.real import RealKernel

REPOSITORY = Path(__file__).parents[3]
SHORTER = (
    "train.num_train_steps=10",
    "train.warmup_steps=2",
    "train.save_every_steps=5",
    "predict.max_new_tokens=8",
    "smoke.kill=false",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_the_run_spec_to_evidence_that_a_stranger_can_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quickstart with fewer train steps: pushed, run, fetched, completed, packed, verified with the platform's own copy."""
    from engine.cli import main

    project = tmp_path / "project"
    for folder in ("runspecs", "evalsets"):
        shutil.copytree(REPOSITORY / folder, project / folder)
    (project / ".runspec").mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setattr(watch, "POLLS", Backoff(2.0, 1.0, 2.0))
    with Platform(tmp_path / "kaggle", stream_idle_seconds=5) as kaggle:
        kaggle.script(RealKernel())
        for name, value in (
            ("RUNSPEC_KAGGLE_API", kaggle.api_url),
            ("KAGGLE_API_TOKEN", kaggle.token),
            ("HOME", str(tmp_path)),
        ):
            monkeypatch.setenv(name, value)
        code, said = typed(
            main, capsys, "kaggle", "run", "runspecs/quickstart.yaml", "--target", "cpu", "--public", *SHORTER
        )
        assert code == 0, said
        document = json.loads(said)
        assert (document["state"], document["trust_level"]) == ("done", "L0"), document
        code, said = typed(main, capsys, "kaggle", "fetch", "someone/runspec-quickstart-v1/1")
        assert code == 0, said
        assert level_where_this_is_kaggle(document["package"], json.loads(said)["folder"], kaggle) == "L2"
        for path in project.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            assert not [secret for secret in kaggle.issued_secrets if secret.encode() in data], path


def typed(main: Callable[..., int], capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str]:
    capsys.readouterr()
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    sys.stderr.write(captured.err)  # where it fails, the log says why
    return code, captured.out
