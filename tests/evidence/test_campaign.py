"""The forgers' campaign: one value changed, or a value with all that follows from it, is found by a named check or is on
the list of what nobody checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence.bundle import Bundle
from engine.evidence.checks.stated import is_stated
from engine.evidence.verify import Verification, verify_bundle
from tests.evidence.forger import alone, files_of, together

Variant = tuple[str, dict[str, bytes]]


def _checked(files: dict[str, bytes]) -> Verification:
    return verify_bundle(Bundle("folder", files))


def _unnoticed(variants: Iterable[Variant]) -> Iterator[str]:
    """Variants that verify although their field is not on the list."""
    for name, files in variants:
        file, field = name.split(": ", 1)
        if not is_stated(file, field) and _checked(files).ok:
            yield name


@pytest.fixture
def files(record: RunRecord, render: Any) -> dict[str, bytes]:
    """A good evidence folder."""
    return files_of(render(record))


def test_some_forgeries_of_each_kind_are_found(files: dict[str, bytes]) -> None:
    """Every thirty-seventh value; the whole campaign is slow."""
    assert _checked(files).ok
    some = itertools.chain(itertools.islice(alone(files), 5, None, 37), itertools.islice(together(files), 7, None, 37))
    assert list(_unnoticed(some)) == []


@pytest.mark.slow
@pytest.mark.parametrize("forge", [alone, together])
def test_every_value_is_found_or_is_on_the_list(files: dict[str, bytes], forge: Any) -> None:
    """More than 400 variants of each kind."""
    variants = list(forge(files))
    assert len(variants) > 400
    assert list(_unnoticed(variants)) == []


def test_a_single_change_is_found_although_nobody_checks_the_field(files: dict[str, bytes]) -> None:
    """The list is about forgers who redo every digest: a value of an attachment changed alone breaks the chain."""
    changed = [
        files for name, files in alone(files) if name.startswith(("metrics", "train_report", "dataset_manifest"))
    ]
    assert {_checked(files).ok for files in changed[::9]} == {False}


COMMITTED = Path(__file__).parents[2] / "submission_runs" / "quickstart_v1"


def test_evidence_of_version_1_verifies_and_its_forgeries_do_not() -> None:
    """Records without templates have rules of their own."""
    files = files_of(COMMITTED)
    assert b'"schema_version": 1' in files["run_record.json"]
    assert _checked(files).ok
    rendered = [variant for variant in alone(files) if variant[0].startswith(("run_manifest", "eval_summary"))]
    assert list(_unnoticed(rendered[::6])) == []
