"""One command, from the run-spec to evidence that Kaggle would make L2, with the generated notebook run by a real kernel: nothing stands in but the platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kaggle.driver.real_project import QUICKSTART, be_quick, environment, no_secret_below, real_project, typed
from tests.kaggle.driver.stand_ins import level_where_this_is_kaggle
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.real import RealKernel

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

    project = real_project(tmp_path / "project")
    monkeypatch.chdir(project)
    be_quick(monkeypatch)
    with Platform(tmp_path / "kaggle", stream_idle_seconds=5) as kaggle:
        kaggle.script(RealKernel())
        for name, value in environment(kaggle, tmp_path).items():
            monkeypatch.setenv(name, value)
        code, done = typed(main, capsys, "kaggle", "run", QUICKSTART, "--target", "cpu", "--public", *SHORTER)
        assert code == 0, done
        assert (done["state"], done["trust_level"]) == ("done", "L0"), done
        code, fetched = typed(main, capsys, "kaggle", "fetch", "someone/runspec-quickstart-v1/1")
        assert code == 0, fetched
        assert level_where_this_is_kaggle(done["package"], fetched["folder"], kaggle) == "L2"
        no_secret_below(project, kaggle)
