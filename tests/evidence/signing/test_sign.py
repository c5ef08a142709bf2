"""Signing adds one file that V23 reads; every false signature has a finding of its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import Journal, RunRecord
from engine.errors import InputInvalid, VerificationFailed
from engine.evidence import package, verify
from engine.evidence.about import SIGNATURES, STATEMENT
from engine.evidence.contents import Reader
from engine.evidence.signing.envelope import PAYLOAD_TYPE, pre_authentication
from engine.evidence.signing.private_keys import SigningKey
from engine.evidence.signing.sign import sign
from engine.evidence.signing.trust import trusted_keys
from engine.evidence.verify import Verification
from engine.pipeline.finish import finish_run
from tests.evidence.conftest import FILES, build, toy_spec
from tests.fixtures import version_1


def _trusting(key: SigningKey, name: str = "ann@x.org", options: str = "") -> Reader:
    return Reader(trusted_keys(f"{name} {options} {key.public.openssh}", "signers"))


def _v23(verification: Verification) -> str:
    [check] = [check for check in verification.checks if check.id == "V23"]
    return f"{check.status}: {check.detail}"


def test_unsigned_says_unsigned(folder: Path, ann: SigningKey) -> None:
    """Nobody has to sign; but who asks for a signature is not given a pass without one."""
    assert _v23(verify(folder)) == "n/a: unsigned"
    asked = verify(folder, _trusting(ann))
    assert _v23(asked) == "fail: unsigned, and you asked for a signature by a key in signers"
    assert (asked.ok, asked.trust_level) == (False, None)


def test_signed_by_somebody_is_not_trusted_by_itself(folder: Path, ann: SigningKey) -> None:
    """The level rises only by a key that the reader names."""
    assert sign(folder, ann).fresh
    found = verify(folder)
    assert (found.ok, found.trust_level) == (True, "L0")
    assert _v23(found) == f"pass: signed by {ann.public.fingerprint}, which you did not say you trust"
    trusted = verify(folder, _trusting(ann))
    assert (trusted.ok, trusted.trust_level) == (True, "L1")
    assert _v23(trusted) == f"pass: signed by ann@x.org ({ann.public.fingerprint}), a key that you trust"


def test_the_signed_zip_is_what_package_writes_from_the_signed_folder(
    folder: Path, archive: Path, ann: SigningKey, tmp_path: Path
) -> None:
    """Ed25519 is deterministic: signed before or after packing, byte for byte the same."""
    sign(archive, ann)
    sign(folder, ann)
    assert package(folder, tmp_path / "again", "toy").read_bytes() == archive.read_bytes()
    assert verify(archive, _trusting(ann)).trust_level == "L1"


def test_two_may_sign_and_one_signs_once(archive: Path, ann: SigningKey, bob: SigningKey) -> None:
    """The second signature leaves the first; the same key again changes no byte."""
    sign(archive, ann)
    assert sign(archive, bob).signers == (ann.public.fingerprint, bob.public.fingerprint)
    before = archive.read_bytes()
    assert not sign(archive, ann).fresh
    assert archive.read_bytes() == before
    for key in (ann, bob):
        assert verify(archive, _trusting(key)).trust_level == "L1"


Edit = Callable[[dict[str, Any], SigningKey, SigningKey], object]


def _payload(document: dict[str, Any], data: bytes) -> None:
    document["payload"] = base64.b64encode(data).decode()


def _over(document: dict[str, Any], kind: str, data: bytes, key: SigningKey) -> None:
    """Properly signed, but another thing."""
    _payload(document, data)
    document["payloadType"] = kind
    document["signatures"][0]["sig"] = base64.b64encode(key.sign(pre_authentication(kind, data))).decode()


def _bare(document: dict[str, Any], ann: SigningKey, data: bytes) -> None:
    """A signature over the bytes themselves: it could have been meant for anything."""
    document["signatures"][0]["sig"] = base64.b64encode(ann.sign(data)).decode()


FALSE: dict[str, tuple[Edit, str]] = {
    "no object": (lambda d, a, b: d.clear(), "is no envelope of signatures: it needs payload, payloadType and signatures"),
    "no signature": (lambda d, a, b: d["signatures"].clear(), "it has 0 signatures, and 1 to 20 are read"),
    "too many": (lambda d, a, b: d["signatures"].extend(d["signatures"] * 20), "it has 21 signatures, and 1 to 20 are read"),
    "base64": (lambda d, a, b: d["signatures"][0].update(sig="?"), "its base64 is damaged"),
    "no text": (lambda d, a, b: d["signatures"][0].update(sig=7), "a signature needs sig"),
    "keyid": (lambda d, a, b: d["signatures"][0].update(keyid=b.public.fingerprint), "a signature names the key "),
    "key of bob": (lambda d, a, b: d["signatures"][0].update(keyid="", public_key=b.public.openssh),
                   "the signature does not fit: it is over other bytes, or not by SHA256:"),
    "other bytes": (lambda d, a, b: d["signatures"][0].update(sig=base64.b64encode(a.sign(b"other")).decode()),
                    "the signature does not fit: it is over other bytes, or not by ann@x.org (SHA256:"),
    "without its type": (lambda d, a, b: _bare(d, a, base64.b64decode(d["payload"])), "the signature does not fit"),
    "another statement": (lambda d, a, b: _over(d, PAYLOAD_TYPE, b"{}", a),
                          "what is signed is another statement than provenance.intoto.json: it is about other files"),
    "something else": (lambda d, a, b: _over(d, "text/plain", base64.b64decode(d["payload"]), a),
                       "what is signed is 'text/plain', not a statement (application/vnd.in-toto+json)"),
    "rsa": (lambda d, a, b: d["signatures"][0].update(public_key="ssh-rsa AAAA"), "its kind is ssh-rsa; only Ed25519 keys are used here"),
    "a note": (lambda d, a, b: d.update(note="witnessed by a platform"), "it has 'note', which nobody signed"),
    "a note in a signature": (lambda d, a, b: d["signatures"][0].update(by="a platform"), "a signature has 'by', which nobody signed"),
    "a note behind the key": (lambda d, a, b: d["signatures"][0].update(public_key=a.public.openssh + " a platform"),
                              "has more than the key: 'ssh-ed25519 "),
    "a note for a name": (lambda d, a, b: d["signatures"][0].update(keyid="seen by a platform"), "'seen by a platform' is not the name of a key"),
    "private": (lambda d, a, b: d["signatures"][0].update(public_key="-----BEGIN PRIVATE" + " KEY-----"), "it is a private key"),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE)
def test_a_false_signature_fails_by_its_own_finding(folder: Path, ann: SigningKey, bob: SigningKey, name: str) -> None:
    """Whether the reader trusts the key or has not said so."""
    change, finding = FALSE[name]
    sign(folder, ann)
    document = json.loads((folder / SIGNATURES).read_bytes())
    change(document, ann, bob)
    (folder / SIGNATURES).write_text(json.dumps(document))
    found = verify(folder, _trusting(ann))
    assert finding in _v23(found)
    assert found.trust_level is None
    assert _v23(verify(folder)).startswith("fail: ")
    assert "V23" in [check.id for check in found.failed]


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ('valid-before="20200101Z"', "has expired: it is not trusted after 2020-01-01T00:00:00+00:00"),
        ('valid-after="29990101Z"', "is not trusted before 2999-01-01T00:00:00+00:00"),
        ('namespaces="git"', "is trusted for git only, and not for runspec-evidence"),
    ],
)
def test_a_key_that_does_not_count(folder: Path, ann: SigningKey, options: str, finding: str) -> None:
    """Expired, not yet, for another purpose."""
    sign(folder, ann)
    assert (
        _v23(verify(folder, _trusting(ann, options=options)))
        == f"fail: the key of ann@x.org ({ann.public.fingerprint}) {finding}"
    )


def test_a_key_that_is_not_trusted(folder: Path, ann: SigningKey, bob: SigningKey) -> None:
    """The reader trusts bob."""
    sign(folder, ann)
    assert _v23(verify(folder, _trusting(bob))) == f"fail: signed by {ann.public.fingerprint}, which is not in signers"


def test_an_envelope_of_another_tool_names_its_key_only(folder: Path, ann: SigningKey, bob: SigningKey) -> None:
    """Every trusted key is tried; without one there is nothing to say."""
    sign(folder, ann)
    document = json.loads((folder / SIGNATURES).read_bytes())
    document["signatures"] = [{"keyid": "abc", "sig": document["signatures"][0]["sig"]}]
    (folder / SIGNATURES).write_text(json.dumps(document))
    assert verify(folder, _trusting(ann)).trust_level == "L1"
    assert _v23(verify(folder, _trusting(bob))) == "fail: signed by a key called 'abc', which is not in signers"
    assert _v23(verify(folder)) == "n/a: signed by a key called 'abc', which is not here: --trust KEYS looks for it"


def test_evidence_that_does_not_verify_is_not_signed(folder: Path, ann: SigningKey) -> None:
    """A signature says that the signer looked."""
    (folder / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(VerificationFailed, match="is not signed, because it does not verify: V02"):
        sign(folder, ann)
    assert not (folder / SIGNATURES).exists()


def test_evidence_of_version_1_has_nothing_to_sign(ann: SigningKey) -> None:
    """It has no statement."""
    with pytest.raises(InputInvalid, match=f"has no {STATEMENT}"):
        sign(version_1.EVIDENCE, ann)


def test_rendering_again_keeps_a_signature_that_fits_and_drops_one_that_does_not(
    folder: Path, record: RunRecord, render: Any, ann: SigningKey
) -> None:
    """The statement is the same, or it is not."""
    sign(folder, ann)
    render(record)
    assert verify(folder, _trusting(ann)).trust_level == "L1"
    render(record, files=FILES, notes="another note")
    assert not (folder / SIGNATURES).exists()


def test_a_peer_reads_the_envelope(folder: Path, ann: SigningKey) -> None:
    """securesystemslib, the library of in-toto, verifies what we sign."""
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed")
    signer = pytest.importorskip("securesystemslib.signer")
    sign(folder, ann)
    envelope = dsse.Envelope.from_dict(json.loads((folder / SIGNATURES).read_bytes()))
    key = signer.SSlibKey(ann.public.fingerprint, "ed25519", "ed25519", {"public": ann.public.data.hex()})
    assert list(envelope.verify([key], 1)) == [ann.public.fingerprint]
    assert envelope.payload == (folder / STATEMENT).read_bytes()


def test_a_run_that_is_finished_again_keeps_the_signature(tmp_path: Path, ann: SigningKey) -> None:
    """Nothing was computed again, so the statement is the same; the zip gets the signature too. Another record drops it."""
    spec = replace(toy_spec(), path=tmp_path / "toy.yaml", root=tmp_path)
    journal = Journal(tmp_path / ".runspec" / "runs" / "toy_v1" / "journal.jsonl")
    first = finish_run(spec, build(tmp_path), journal, lambda _: None)
    sign(first.evidence_dir, ann)
    second = finish_run(spec, build(tmp_path), journal, lambda _: None)
    assert verify(second.package, _trusting(ann)).trust_level == "L1"
    assert finish_run(spec, build(tmp_path), journal, lambda _: None).fresh is False
    args = {"train": {"seed": 43, "num_train_steps": 4}}
    other = finish_run(
        replace(toy_spec(args), path=spec.path, root=tmp_path), build(tmp_path, args), journal, lambda _: None
    )
    assert _v23(verify(other.package)) == "n/a: unsigned"
    assert (tmp_path / other.replaced.kept / "evidence" / SIGNATURES).is_file()
