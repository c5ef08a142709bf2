"""No content of a stranger crashes ``verify`` or holds it: each hostile input is refused by name, in 5 s and 300 MB."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from engine.errors import RunspecError
from engine.evidence import verify
from tests.evidence.hostile_inputs import CASES, Case, Files, members_of, raw_zip, sealed
from tests.fixtures.measured import measured

REPOSITORY = Path(__file__).parent.parent.parent
MOST_SECONDS, MOST_KIB = 5.0, 300 << 10
IN_A_PROCESS = ("cut at 50 %", "60,000 entries", "run_record.json: a number of 401 digits", "a pipe",
                "run_manifest.json: 600 lists", "a member named b'toy_v1/\\x1b[2J.txt'")  # fmt: skip


MADE: Files = {}


@pytest.fixture
def files(request: pytest.FixtureRequest) -> Files:
    """Good evidence, as bytes, made once."""
    if not MADE:
        folder = request.getfixturevalue("render")(request.getfixturevalue("record"))
        MADE.update({path.name: path.read_bytes() for path in folder.iterdir()})
    return MADE


def found(path: Path) -> tuple[int, str]:
    """Exit code and text of the refusal, in this process."""
    try:
        verification = verify(path)
    except RunspecError as error:
        return error.exit_code, f"{error.code} {error}"
    lines = [f"{check.id}  {check.status}  {check.title}: {check.detail}" for check in verification.checks]
    return (0 if verification.ok else 5), "\n".join(lines)


def test_the_forger_that_makes_these_inputs_makes_good_ones_too(files: Files, tmp_path: Path) -> None:
    """Law: its zip and its manifest pass before anything is changed, so that each case fails by its own change."""
    (tmp_path / "good.zip").write_bytes(raw_zip(members_of(sealed(files))))
    assert verify(tmp_path / "good.zip").ok
    assert len({case.name for case in CASES}) == len(CASES) >= 120


@pytest.mark.parametrize("case", [case for case in CASES if not case.is_large], ids=lambda case: case.name)
def test_a_hostile_input_is_refused_by_name(case: Case, files: Files, tmp_path: Path) -> None:
    code, text = found(case.make(files, tmp_path))
    assert code == case.exit_code
    assert re.search(case.finding, text), text[:3000]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in IN_A_PROCESS else pytest.mark.slow, id=case.name) for case in CASES],
)
def test_a_real_process_refuses_it_in_time_and_memory(case: Case, files: Files, tmp_path: Path) -> None:
    """Law: exit code, finding, 5 s, 300 MB, measured by the system; no traceback."""
    path = case.make(files, tmp_path)
    words = [sys.executable, "-m", "engine", "verify", str(path)]
    done = measured(words, tmp_path, {**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert (done.exit_code, "Traceback" in done.text) == (case.exit_code, False), done.text[:3000]
    assert re.search(case.finding, done.text), done.text[:3000]
    assert done.seconds <= MOST_SECONDS
    assert done.kib <= MOST_KIB
