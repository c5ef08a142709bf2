"""What a sigstore bundle is about is said without the library; who signed it is the library's to say."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import extras
from engine.artifacts.journal import RunRecord
from engine.cli import main
from engine.evidence import package, verify
from engine.evidence.about import SIGNATURES, SIGSTORE, STATEMENT
from engine.evidence.contents import Reader
from engine.evidence.signing.private_keys import SigningKey
from engine.evidence.signing.sign import sign
from engine.evidence.signing.signatures import examine_bundle
from engine.evidence.signing.sigstore_bundle import NotBySigner, TrustedIdentity
from engine.evidence.signing.trust import trusted_keys
from engine.evidence.verify import Verification

KIND = "application/vnd.in-toto+json"
ASKED = ("--trust-identity", "ann@example.org", "--trust-issuer", "https://issuer.example")


def _bundle(statement: bytes) -> dict[str, Any]:
    """Its form alone: no signature in it is one."""
    payload = base64.b64encode(statement).decode()
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]},
        "dsseEnvelope": {"payload": payload, "payloadType": KIND, "signatures": [{"sig": "AAAA"}]},
    }


@pytest.fixture
def bundled(folder: Path) -> Path:
    """Evidence with a bundle."""
    (folder / SIGSTORE).write_text(json.dumps(_bundle((folder / STATEMENT).read_bytes())))
    return folder


def _v23(verification: Verification) -> str:
    [check] = [check for check in verification.checks if check.id == "V23"]
    return f"{check.status}: {check.detail}"


def _ann(signed_bytes: Callable[[bytes], tuple[str, bytes]]) -> TrustedIdentity:
    return TrustedIdentity("ann@example.org", "https://issuer.example", signed_bytes)


def test_a_bundle_is_nobodys_until_somebody_is_asked_for(bundled: Path) -> None:
    """No pass and no level; what to type, and what to install."""
    found = verify(bundled)
    assert (found.ok, found.trust_level) == (True, "L0")
    assert _v23(found).startswith("n/a: a sigstore bundle over this statement, and who signed it is not verified: ")
    assert "pip install 'runspec-engine[sigstore]'" in _v23(found)


def test_verify_py_says_the_same(bundled: Path) -> None:
    """Of a bundle over this statement, and of one over another."""

    def by_verify_py() -> str:
        done = subprocess.run(
            [sys.executable, bundled / "verify.py", "--json"], capture_output=True, text=True, check=False
        )
        return next(
            f"{row['status']}: {row['detail']}" for row in json.loads(done.stdout)["checks"] if row["id"] == "V23"
        )

    assert by_verify_py() == _v23(verify(bundled))
    document = json.loads((bundled / SIGSTORE).read_bytes())
    document["dsseEnvelope"]["payload"] = "e30="
    (bundled / SIGSTORE).write_text(json.dumps(document))
    assert by_verify_py() == _v23(verify(bundled))
    assert by_verify_py().startswith("fail: provenance.sigstore.json is not used: what is signed is another statement")


def test_verify_py_names_who_can_do_more(folder: Path) -> None:
    """Exit code 2: nothing that was asked for is left out in silence."""
    words = ("--trust-identity=ann",)
    done = subprocess.run([sys.executable, folder / "verify.py", *words], capture_output=True, text=True, check=False)
    option = words[0].partition("=")[0]
    assert (done.returncode, f"error[U102]: {option} needs the engine, with a library" in done.stderr) == (2, True)


FALSE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no object": (lambda d: d.clear(), "it is no sigstore bundle of version 0.3: its mediaType is None"),
    "older": (lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"), "no sigstore bundle of version 0.3"),
    "a list": (lambda d: d.update(mediaType=[]), "no sigstore bundle of version 0.3"),
    "key": (lambda d: d["verificationMaterial"].pop("certificate"), "it has no certificate, or no entry of a transparency log"),
    "not logged": (lambda d: d["verificationMaterial"].update(tlogEntries=[]), "or no entry of a transparency log"),
    "a file": (lambda d: d.pop("dsseEnvelope"), "it has no DSSE envelope: a signature over a file's digest names no statement"),
    "no envelope": (lambda d: d["dsseEnvelope"].clear(), "its envelope is none: it needs payload, payloadType and signatures"),
    "two": (lambda d: d["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}), "its envelope has 2 signatures"),
    "another": (lambda d: d["dsseEnvelope"].update(payload="e30="), "what is signed is another statement than provenance.intoto.json"),
    "something": (lambda d: d["dsseEnvelope"].update(payloadType="text/plain"), "what is signed is 'text/plain', not a statement"),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE)
def test_a_bundle_of_something_else_fails_by_its_own_finding(name: str) -> None:
    """Whoever is asked for, the library is not even asked."""
    change, finding = FALSE[name]
    document = _bundle(b"the statement")
    change(document)

    def never(data: bytes) -> tuple[str, bytes]:
        raise AssertionError(data)

    for trust in (None, _ann(never)):
        status, detail = examine_bundle(b"the statement", json.dumps(document).encode(), document, trust).answer
        assert status == "fail"
        assert detail.startswith("provenance.sigstore.json is not used: ")
        assert finding in detail


def test_the_level_rises_by_the_identity_that_was_asked_for(bundled: Path) -> None:
    """And by what the library verified, which must be this statement once more."""
    statement = (bundled / STATEMENT).read_bytes()
    found = verify(bundled, Reader(identity=_ann(lambda data: (KIND, statement))))
    assert (found.trust_level, _v23(found)) == (
        "L1", "pass: signed by ann@example.org (by https://issuer.example), an identity that you trust",
    )  # fmt: skip
    for other in (("text/plain", statement), (KIND, b"{}")):
        found = verify(bundled, Reader(identity=_ann(lambda data, other=other: other)))  # type: ignore[misc]
        assert _v23(found) == "fail: provenance.sigstore.json: what the library verified is another statement"

    def refuse(data: bytes) -> tuple[str, bytes]:
        raise NotBySigner("signed by 'bob@example.org'")

    assert (
        _v23(verify(bundled, Reader(identity=_ann(refuse))))
        == "fail: provenance.sigstore.json: signed by 'bob@example.org'"
    )


def test_who_asks_for_somebody_gets_no_pass_without_a_bundle(folder: Path, ann: SigningKey) -> None:
    """Not by a key that signed, and not by having asked for both: each that is asked for must be there."""
    sign(folder, ann)
    keys, identity = trusted_keys(ann.public.openssh, "signers"), _ann(lambda data: (KIND, b""))
    for reader in (Reader(identity=identity), Reader(identity=identity, trust=keys)):
        found = verify(folder, reader)
        missing = "no sigstore bundle, and you asked for a signature by ann@example.org (by https://issuer.example)"
        assert (_v23(found), found.trust_level) == (f"fail: {missing}", None)


def test_a_bundle_and_a_key_stand_beside_each_other(bundled: Path, ann: SigningKey) -> None:
    """One line for both; the level is by the key that the reader named."""
    sign(bundled, ann)
    found = verify(bundled, Reader(trust=trusted_keys(ann.public.openssh, "signers")))
    assert found.trust_level == "L1"
    assert _v23(found).startswith(
        f"pass: signed by {ann.public.fingerprint}, a key that you trust; a sigstore bundle over this"
    )


def test_package_keeps_it_and_only_its_exact_name(bundled: Path, tmp_path: Path) -> None:
    """V28: a twin of its name is refused."""
    archive = package(bundled, tmp_path / "submission", "toy")
    assert verify(archive).ok
    (bundled / SIGSTORE).rename(bundled / "Provenance.sigstore.json")
    [failed] = [check for check in verify(bundled).failed if check.id == "V28"]
    assert "'Provenance.sigstore.json' is not named by the record" in failed.detail


def test_rendering_again_keeps_it_or_drops_it_with_the_statement(bundled: Path, record: RunRecord, render: Any) -> None:
    """As it does with the signatures by keys."""
    render(record)
    assert (bundled / SIGSTORE).is_file()
    render(record, notes="another note")
    assert not (bundled / SIGSTORE).exists()
    assert not (bundled / SIGNATURES).exists()


def test_without_the_extra_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X101 with what to type: for signing, and for who asks who signed."""
    monkeypatch.setitem(extras.EXTRAS, "sigstore", ("surely_not_installed",))
    for words in (["sign", str(folder), "--sigstore"], ["verify", str(folder), *ASKED]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "error[X101]" in said
        assert "pip install 'runspec-engine[sigstore]'" in said
    assert not (folder / SIGSTORE).exists()


OPTIONS = [
    (("verify", *ASKED[:2]), "--trust-identity is for --trust-issuer, which is not given"),
    (("verify", *ASKED[2:]), "--trust-issuer is for --trust-identity, which is not given"),
    (("verify", "--offline"), "--offline is for --trust-identity, which is not given"),
    (("verify", "--staging"), "--staging is for --trust-identity, which is not given"),
    (("verify", "--signature", "x"), "--signature is for --weights, which is not given"),
    (("verify", *ASKED, "--staging", "--trust-config", "x"), "--staging and --trust-config name two instances"),
    (("sign", "--identity-token", "x"), "--identity-token is for --sigstore, which is not given"),
    (("sign", "--out", "x", "--key", "k"), "--out is for --weights, which is not given"),
    (("sign", "--sigstore", "--key", "k"), "--sigstore signs as somebody, without a key: it does not go with --key"),
    (("sign", "--sigstore", "--weights"), "--sigstore signs as somebody, without a key: it does not go with --weights"),
]


@pytest.mark.parametrize(("words", "finding"), OPTIONS)
def test_options_that_do_not_fit_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], finding: str
) -> None:
    """U175, before anything is read."""
    assert main([words[0], str(tmp_path), *words[1:]]) == 2
    assert f"error[U175]: {finding}" in capsys.readouterr().err
