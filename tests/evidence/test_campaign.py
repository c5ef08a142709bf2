"""The forgers' campaign: one value changed, or a value with all that follows from it, is found by a named check or is on
the list of what nobody checks."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence.about import SIGNATURES, STATEMENT
from engine.evidence.bundle import Bundle
from engine.evidence.checks.stated import is_stated
from engine.evidence.contents import Reader
from engine.evidence.signing.envelope import PAYLOAD_TYPE, Envelope, Signature, pre_authentication
from engine.evidence.signing.private_keys import SigningKey
from engine.evidence.signing.sign import sign
from engine.evidence.signing.trust import trusted_keys
from engine.evidence.verify import Verification, verify_bundle
from tests.evidence.forger import about, alone, files_of, together, vouched_otherwise
from tests.fixtures import version_1

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
    """Every ninety-seventh value; the whole campaign is slow."""
    assert _checked(files).ok
    some = itertools.chain(itertools.islice(alone(files), 5, None, 97), together(files, every=97))
    assert list(_unnoticed(some)) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # each of 500 is verified
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
    assert {_checked(files).ok for files in changed[::40]} == {False}


def test_some_forgeries_of_what_is_said_about_the_evidence_are_found(files: dict[str, bytes]) -> None:
    """Statement, crate, data set, card and README are made again: no byte of them is anybody's to choose."""
    assert [name for name, forged in itertools.islice(about(files), 3, None, 97) if _checked(forged).ok] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # each of 300 and more is verified
def test_every_forgery_of_what_is_said_about_the_evidence_is_found(files: dict[str, bytes]) -> None:
    """Every value of the JSON files, every line of the others, every file taken away or emptied."""
    variants = list(about(files))
    assert len(variants) > 300
    assert [name for name, forged in variants if _checked(forged).ok] == []


def test_what_vouches_for_another_package_vouches_for_nothing(
    record: RunRecord, render: Any, ann: SigningKey, tmp_path: Path
) -> None:
    """Statements and signatures moved, cut, doubled; a signed package taken back to the rules of version 1."""
    folder = render(record)
    sign(folder, ann)
    good = files_of(folder)
    shutil.rmtree(folder)
    render(record, notes="another run")
    statement = (folder / STATEMENT).read_bytes()
    envelope = Envelope(
        statement,
        PAYLOAD_TYPE,
        [Signature(ann.public.fingerprint, ann.sign(pre_authentication(PAYLOAD_TYPE, statement)), ann.public)],
    )
    other = {**files_of(folder), SIGNATURES: envelope.as_bytes()}
    reader = Reader(trusted_keys(ann.public.openssh, "signers"))
    assert verify_bundle(Bundle("folder", good), reader=reader).trust_level == "L1"
    unnoticed = [
        name
        for name, forged in vouched_otherwise(good, other)
        if verify_bundle(Bundle("folder", forged), reader=reader).ok
    ]
    assert unnoticed == []


COMMITTED = version_1.EVIDENCE


def test_evidence_of_version_1_verifies_and_its_forgeries_do_not() -> None:
    """Records without templates have rules of their own."""
    files = files_of(COMMITTED)
    assert b'"schema_version": 1' in files["run_record.json"]
    assert _checked(files).ok
    rendered = list(alone(files, only=("run_manifest.json", "eval_summary.json")))
    assert list(_unnoticed(rendered[::24])) == []
