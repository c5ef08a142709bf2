"""Only files that the record names, each read in one way only, in the zip that ``package`` writes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence import package, verify


def _failed(path: Path, id_: str) -> str:
    """What a check found."""
    [check] = [check for check in verify(path).checks if check.id == id_]
    assert check.status == "fail"
    return check.detail


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("run.sh", "'run.sh' is not named by the record"),
        ("weights.pkl", "'weights.pkl' is not named by the record"),
        ("Metrics.jsonl", "'Metrics.jsonl' is not named by the record, and looks like metrics.jsonl"),
        ("ｍetrics.jsonl", r"'\uff4detrics.jsonl' is not named by the record, and looks like metrics.jsonl"),
        ("extra.json", "'extra.json' is not named by the record"),
    ],
)  # fmt: skip
def test_a_file_that_the_record_does_not_name_is_refused(
    record: RunRecord, render: Any, reseal: Any, name: str, finding: str
) -> None:
    """Although the list of digests has it."""
    folder = render(record)
    (folder / name).write_text("{}\n")
    reseal(folder)
    assert _failed(folder, "V28") == finding


def test_a_key_that_is_there_twice_is_refused(record: RunRecord, render: Any, reseal: Any) -> None:
    """One reader takes the first value, another the last one."""
    folder = render(record)
    path = folder / "scorecard.json"
    path.write_text(path.read_text().replace("{", '{"n_items": 9,', 1))
    reseal(folder)
    assert _failed(folder, "V11") == "scorecard.json is not JSON: the key 'n_items' is there twice in one object"


def test_a_zip_is_the_one_that_package_writes(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """Compressed again, or with a byte after the end: told apart, although every member is the same."""
    good = package(render(record), tmp_path / "out", "toy")
    again, longer = tmp_path / "again.zip", tmp_path / "longer.zip"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    longer.write_bytes(good.read_bytes() + b"\n")
    what = "the zip is not what `runspec package` writes from these files: it"
    assert _failed(again, "V28") == f"{what} was compressed again by another program"
    assert _failed(longer, "V01") == "this is not a complete zip: it does not end with the end of a directory"
    assert verify(good).ok
