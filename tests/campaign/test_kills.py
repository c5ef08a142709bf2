"""SIGKILL at random instants: the next run finishes, and the evidence is that of an uninterrupted run."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline.plan import differences
from tests.campaign.light_project import SPEC

QUICKSTART = (Path(__file__).parent.parent.parent / "runspecs" / "quickstart.yaml").read_text(encoding="utf-8")
# The quickstart with every step of it, made small enough for `make test`.
SMALL = (
    "dataset.num_rows=60",
    "train.num_train_steps=12",
    "train.warmup_steps=2",
    "train.eval_rows=8",
    "train.save_every_steps=4",
    "predict.max_new_tokens=8",
)


@pytest.fixture(scope="module")
def small(new_project: Any) -> Any:
    """An uninterrupted small quickstart, and how long it took."""
    project = new_project("whole", QUICKSTART, SMALL)
    return project, project.finish()


def check_kills(new_project: Any, whole: Any, seconds: float, instants: int, seed: int) -> None:
    """The law, for so many instants drawn uniformly over the length of a whole run."""
    expected, draw, killed, attempts = whole.evidence(), random.Random(seed), 0, 0
    while killed < instants:
        attempts += 1
        assert attempts <= 3 * instants, "most of the kills must hit a running process"
        project = new_project(f"killed-{seed}-{attempts}", QUICKSTART, whole.overrides)
        instant = draw.uniform(0.0, seconds)
        if not project.kill_after(instant):  # a quicker run than the first one: it had ended already
            seconds = instant
            continue
        killed += 1
        project.finish()
        assert differences(expected, project.evidence()) == [], f"killed after {instant:.2f} s of {seconds:.2f} s"


@pytest.mark.slow  # `make test` kills training runs in test_exact_resume.py and every command that writes in test_state_kills.py
@pytest.mark.timeout(900)
def test_a_run_killed_at_random_instants_ends_in_the_same_evidence(new_project: Any, small: Any) -> None:
    """The short version: a small quickstart, one instant."""
    check_kills(new_project, *small, instants=1, seed=20261123)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_smoke_run_killed_after_its_own_kill_proves_it_again(new_project: Any, small: Any) -> None:
    """The next run does not resume what the killed smoke run left: it kills and resumes a training run of its own."""
    whole, _ = small
    project = new_project("killed-in-smoke", QUICKSTART, whole.overrides)
    project.kill_at("checkpoint at train step 2", times=1)
    project.finish()
    assert differences(whole.evidence(), project.evidence()) == []


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_the_quickstart_killed_at_twenty_instants_ends_in_the_same_evidence(new_project: Any) -> None:
    """The long campaign: the quickstart as it is, twenty instants."""
    whole = new_project("quickstart", QUICKSTART, ())
    check_kills(new_project, whole, whole.finish(), instants=20, seed=20261124)


@pytest.fixture(scope="module")
def tiny(new_project: Any) -> Any:
    """A finished run of a model of 6,512 parameters, without a smoke run."""
    project = new_project("tiny", SPEC.replace("items.jsonl", "quickstart.jsonl"), ())
    project.finish()
    return project


def test_a_second_run_does_nothing_and_leaves_everything_byte_identical(tiny: Any) -> None:
    """Evidence, package, journal and artifacts are the same bytes after it."""
    project = tiny
    before = _bytes(project.root)
    project.finish()
    assert _bytes(project.root) == before


def test_a_run_with_nothing_to_do_imports_nothing_heavy(tiny: Any) -> None:
    """No framework and no logger: it has nothing to log (`benchmarks/startup.py` measures what that is worth)."""
    project = tiny
    script = (
        "import sys\nfrom engine.cli import main\ncode = main(sys.argv[1:])\n"
        "print(code, *sorted({'jax', 'numpy', 'rich', 'structlog', 'jinja2', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "runspecs/spec.yaml", "--json", *project.overrides],
        cwd=project.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"


def _bytes(root: Path) -> dict[str, bytes]:
    kept = [root / "submission_runs", root / "submission", root / ".runspec" / "runs", root / ".runspec" / "store"]
    return {str(path): path.read_bytes() for folder in kept for path in folder.rglob("*") if path.is_file()}
