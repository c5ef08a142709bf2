"""Signatures over the weights, made and verified by the real library of OpenSSF's model signing (the extra model-signing)."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

pytest.importorskip("model_signing.signing", reason="the extra model-signing is not installed")

from engine.cli import main
from engine.evidence.signing.envelope import PAYLOAD_TYPE, pre_authentication

pytestmark = pytest.mark.filterwarnings("default")  # of the library and what it stands on
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """``say("sign", folder)`` -> exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def _key(path: Path, key: Any = None, passphrase: bytes | None = None) -> Path:
    key = key or ec.generate_private_key(ec.SECP384R1())
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; its public one lies beside it."""
    return _key(tmp_path / "key.pem")


@pytest.fixture
def mine(folder: Path, tmp_path: Path) -> Path:
    """The exported model, downloaded."""
    [exported] = (tmp_path / ".runspec" / "store").glob("*/*/model")
    shutil.copytree(exported, tmp_path / "mine")
    return tmp_path / "mine"


def _v32(out: str) -> str:
    [row] = [row for row in json.loads(out)["checks"] if row["id"] == "V32"]
    return f"{row['status']}: {row['detail']}"


def test_the_model_of_a_run_is_signed_where_it_lies(
    folder: Path, mine: Path, key: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the evidence's folder; the signature lies beside that, and nothing in the store or the evidence is another file."""
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / ".runspec").rglob("*") if path.is_file()}
    assert (tmp_path / ".runspec").is_dir()
    code, out, err = say("sign", folder, "--weights", "--key", key, "--json")
    signature = tmp_path / "submission_runs" / "toy_v1.model.sig"
    assert (code, err, [Path(row["signature"]) for row in json.loads(out)["signatures"]]) == (0, "", [signature])
    assert {path: path.read_bytes() for path in (tmp_path / ".runspec").rglob("*") if path.is_file()} == before
    named = ("--weights", mine, "--signature", signature)
    code, out, _ = say("verify", folder, *named, "--trust", key.with_suffix(".pub"), "--json")
    assert (code, _v32(out)) == (0, "pass: 2 files, signed by the key key.pub, which you trust")
    assert json.loads(out)["trust_level"] == "L0"
    assert _v32(say("verify", folder, *named, "--json")[1]).startswith(
        "n/a: there is one, by a key that you did not name"
    )
    statement = json.loads(base64.b64decode(json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]))
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0")  # fmt: skip


def test_a_folder_is_signed_beside_it(mine: Path, folder: Path, key: Path, tmp_path: Path, say: Say) -> None:
    """Where a verifier looks for it; never inside."""
    assert say("sign", mine, "--weights", "--key", key)[0] == 0
    assert (tmp_path / "mine.sig").is_file()
    assert sorted(path.name for path in mine.iterdir()) == ["config.json", "model.safetensors"]
    code, out, _ = say("verify", folder, "--weights", mine, "--trust", key.with_suffix(".pub"), "--json")
    assert (code, _v32(out).split(":")[0]) == (0, "pass")
    done = say("sign", mine, "--weights", "--key", key, "--out", mine / "a.sig")
    assert (done[0], "error[U175]" in done[2], (mine / "a.sig").exists()) == (2, True, False)
    done = say("sign", mine, "--weights", "--key", key, "--out", folder / "a.sig")
    assert (done[0], "error[U146]" in done[2], (folder / "a.sig").exists()) == (2, True, False)


def test_what_does_not_fit_is_named(mine: Path, folder: Path, key: Path, tmp_path: Path, say: Say) -> None:
    """Another key, other bytes, a missing and an extra file: each by its own words, and exit code 5."""
    other = _key(tmp_path / "other.pem")
    assert say("sign", mine, "--weights", "--key", key)[0] == 0

    def asked(private: Path = key) -> str:
        code, out, err = say("verify", folder, "--weights", mine, "--trust", private.with_suffix(".pub"), "--json")
        assert (code, err) == (5, "")
        return _v32(out)

    assert asked(other).startswith("fail: mine.sig is no signature by other.pub: Key mismatch")
    (mine / "extra").touch()
    assert asked() == "fail: extra is not among the files that were signed"
    (mine / "extra").unlink()
    (mine / "config.json").write_text("{ }")
    assert asked() == "fail: config.json has other bytes than were signed"
    (mine / "config.json").unlink()
    assert asked() == "fail: config.json was signed, and is missing"


def _sign(document: dict[str, Any], key: Path, statement: dict[str, Any]) -> None:
    """Properly, by the key, over another statement."""
    private: Any = load_pem_private_key(key.read_bytes(), None)
    payload = json.dumps(statement).encode()
    signature = private.sign(pre_authentication(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA384()))
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()


def test_a_signer_who_lets_the_library_ignore_a_file_is_found(
    mine: Path, folder: Path, key: Path, tmp_path: Path, say: Say
) -> None:
    """The library verifies it, and the file that it was told to ignore was never signed."""
    import hashlib

    assert say("sign", mine, "--weights", "--key", key)[0] == 0
    signature = tmp_path / "mine.sig"
    document = json.loads(signature.read_bytes())
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    predicate = statement["predicate"]
    predicate["resources"] = [row for row in predicate["resources"] if row["name"] != "model.safetensors"]
    predicate["serialization"]["ignore_paths"].append("model.safetensors")
    digests = b"".join(bytes.fromhex(row["digest"]) for row in predicate["resources"])
    statement["subject"][0]["digest"] = {"sha256": hashlib.sha256(digests).hexdigest()}
    _sign(document, key, statement)
    signature.write_text(json.dumps(document))
    code, out, _ = say("verify", folder, "--weights", mine, "--trust", key.with_suffix(".pub"), "--json")
    assert (code, _v32(out)) == (5, "fail: model.safetensors is not among the files that were signed")


def test_no_changed_leaf_of_a_signature_passes(mine: Path, folder: Path, key: Path, tmp_path: Path) -> None:
    """Whatever the library makes of it; its media type, the key's name, payload and signature."""
    from engine.evidence.signing.weights import read_weights
    from engine.evidence.signing.weights_sign import sign_weights, signature_answer

    sign_weights(mine, key, tmp_path / "good.sig")
    weights, changed = read_weights(mine), tmp_path / "changed.sig"
    assert signature_answer(weights, tmp_path / "good.sig", key.with_suffix(".pub"))[0] == "pass"
    paths = (("mediaType",), ("verificationMaterial",), ("verificationMaterial", "publicKey", "hint"), ("dsseEnvelope",),
             ("dsseEnvelope", "payload"), ("dsseEnvelope", "payloadType"), ("dsseEnvelope", "signatures"),
             ("dsseEnvelope", "signatures", 0, "sig"))  # fmt: skip
    for path in paths:
        for value in ("AAAA", 0, [], {"a": 1}, "e30="):
            document: Any = json.loads((tmp_path / "good.sig").read_bytes())
            place = document
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            changed.write_text(json.dumps(document))
            assert signature_answer(weights, changed, key.with_suffix(".pub"))[0] == "fail", (path, value)


def test_keys_that_cannot_sign_weights(mine: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """U150 with its own sentence; an encrypted one takes its passphrase from the environment."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    monkeypatch.delenv("RUNSPEC_SIGN_PASSPHRASE", raising=False)
    _key(tmp_path / "rsa.pem", rsa.generate_private_key(65537, 2048))
    _key(tmp_path / "koblitz.pem", ec.generate_private_key(ec.SECP256K1()))
    _key(tmp_path / "locked.pem", passphrase=b"open sesame")
    for name, finding in (
        ("rsa.pem", "it is no elliptic-curve key"),
        ("koblitz.pem", "Unsupported key for curve 'secp256k1'"),
        ("rsa.pub", "is a public key: it verifies, and cannot sign"),
        ("none", "cannot be read"),
        ("locked.pem", "is encrypted, and there is no terminal to ask for its passphrase"),
    ):
        done = say("sign", mine, "--weights", "--key", tmp_path / name)
        assert (done[0], "error[U150]" in done[2], finding in done[2]) == (2, True, True), done
    assert "sign --weights needs a key" in say("sign", mine, "--weights")[2]
    assert not (tmp_path / "mine.sig").exists()
    monkeypatch.setenv("RUNSPEC_SIGN_PASSPHRASE", "open sesame")
    assert say("sign", mine, "--weights", "--key", tmp_path / "locked.pem")[0] == 0


def test_a_model_that_is_not_the_recorded_one_is_not_signed(
    folder: Path, mine: Path, key: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U176: changed in the store, not in it, or a folder of links."""
    monkeypatch.chdir(tmp_path)
    [exported] = (tmp_path / ".runspec" / "store").glob("*/*/model")
    (exported / "config.json").write_text("[]" + " " * (len((exported / "config.json").read_text()) - 2))
    done = say("sign", folder, "--weights", "--key", key)
    assert (done[0], "is not what the evidence records, so it is not signed: config.json" in done[2]) == (2, True)
    shutil.rmtree(exported.parent)
    done = say("sign", folder, "--weights", "--key", key)
    assert (done[0], "error[U176]: the model of this evidence is not here" in done[2]) == (2, True)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "config.json").symlink_to(mine / "config.json")
    done = say("sign", tmp_path / "links", "--weights", "--key", key)
    assert (done[0], "error[U176]" in done[2], list(tmp_path.glob("*.sig"))) == (2, True, [])
