"""The weights that a reader has, beside the digests that the evidence records (V31), without any library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine import extras
from engine.cli import main
from engine.errors import InputInvalid
from engine.evidence import verify
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.checks.weights import weights_are_the_recorded
from engine.evidence.contents import Evidence, Reader
from engine.evidence.signing.public_keys import is_elliptic_pem
from engine.evidence.signing.weights import read_weights


@pytest.fixture
def weights(folder: Path, tmp_path: Path) -> Path:
    """What the run exported, as somebody downloaded it."""
    [exported] = (tmp_path / ".runspec" / "store").glob("*/*/model")
    shutil.copytree(exported, tmp_path / "mine")
    return tmp_path / "mine"


def _v31(folder: Path, weights: Path) -> str:
    found = verify(folder, Reader(weights=read_weights(weights)))
    [check] = [check for check in found.checks if check.id == "V31"]
    assert found.ok == (check.status != "fail")
    assert found.trust_level == ("L0" if found.ok else None)
    return f"{check.status}: {check.detail}"


def test_it_is_asked_only_where_weights_are_named(folder: Path) -> None:
    """Evidence without them has the checks that it always had."""
    assert not {"V31", "V32"} & {check.id for check in verify(folder).checks}


def test_the_recorded_files_pass_and_any_other_folder_does_not(folder: Path, weights: Path) -> None:
    """Changed, missing, extra, in a folder below too; what git keeps beside them does not count. No level rises."""
    assert _v31(folder, weights) == "pass: 2 files, each with the digest that the evidence records for model/"
    (weights / ".git").mkdir()
    (weights / ".git" / "HEAD").touch()
    (weights / ".gitattributes").touch()
    assert _v31(folder, weights).startswith("pass: ")
    (weights / "config.json").write_text("{ }")
    assert _v31(folder, weights) == "fail: config.json has other bytes than model/config.json of the evidence"
    (weights / "config.json").unlink()
    assert _v31(folder, weights) == "fail: config.json is missing"
    (weights / "sub").mkdir()
    (weights / "sub" / ".gitignore").touch()
    assert _v31(folder, weights) == "fail: config.json is missing; sub/.gitignore is no file of model/"


def test_a_run_that_exported_no_model_has_none_to_compare_with(folder: Path, weights: Path) -> None:
    """n/a with the reason: nothing that was not looked at passes."""
    bundle = read_bundle(folder)
    record = json.loads(bundle.files["run_record.json"])
    for step in record["steps"]:
        step["files"] = {name: digest for name, digest in step["files"].items() if not name.startswith("model/")}
    changed = Bundle("folder", {**bundle.files, "run_record.json": json.dumps(record).encode()})
    evidence = Evidence(changed, reader=Reader(weights=read_weights(weights)))
    assert weights_are_the_recorded(evidence) == ("n/a", "the run exported no model")


def test_a_folder_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    """U176: what would be left out in silence is refused."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "below").symlink_to(tmp_path / "empty", target_is_directory=True)
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "gone").symlink_to(tmp_path / "nowhere")
    for name, finding in (("none", "does not exist"), ("file", "is not a folder"), ("empty", "has no file"),
                          ("linked", "is a link to a folder"), ("dead", "is not a file")):  # fmt: skip
        with pytest.raises(InputInvalid, match=finding) as caught:
            read_weights(tmp_path / name)
        assert caught.value.diagnostics[0].code == "U176"


def test_verify_py_compares_them_too(folder: Path, weights: Path) -> None:
    """With the same answers, and who verifies a signature over them."""
    (weights / "config.json").write_text("{ }")
    words = [sys.executable, folder / "verify.py", "--json", "--weights", weights]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = {row["id"]: f"{row['status']}: {row['detail']}" for row in json.loads(done.stdout)["checks"]}
    assert (done.returncode, found["V31"]) == (5, _v31(folder, weights))
    assert found["V32"].startswith("n/a: none was asked for: runspec verify --signature FILE --trust KEY")


def test_without_the_extra_it_is_named(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """X101 for signing; a signature that nobody is named for needs no library to say so."""
    monkeypatch.setitem(extras.EXTRAS, "model-signing", ("surely_not_installed",))
    assert main(["sign", str(weights), "--weights", "--key", "k"]) == 2
    assert "pip install 'runspec-engine[model-signing]'" in capsys.readouterr().err
    assert main(["verify", str(folder), "--weights", str(weights), "--signature", str(weights / "none")]) == 2
    assert "error[U178]" in capsys.readouterr().err
    (weights.parent / "mine.sig").write_text("{}")
    assert (
        main(["verify", str(folder), "--weights", str(weights), "--signature", str(weights.parent / "mine.sig")]) == 5
    )
    assert "mine.sig is no signature over a model folder: it needs payload" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "is_one"), [("P-256", True), ("ed25519", False), ("text", False)])
def test_keys_for_weights_are_told_from_keys_for_evidence(kind: str, is_one: bool) -> None:
    """By what is in the file, so that --trust takes both."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1()) if kind == "P-256" else ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert is_elliptic_pem("ssh-ed25519 AAAA" if kind == "text" else pem) == is_one
