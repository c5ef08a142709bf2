"""``sign`` and ``verify`` from the command line: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import main
from engine.evidence.about import SIGNATURES
from engine.evidence.signing.private_keys import SigningKey

Said = tuple[int, str, str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``say("sign", folder)`` -> exit code, standard output, standard error."""

    def call(*words: object) -> Said:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_what_is_proved_is_the_headline(folder: Path, say: Callable[..., Said]) -> None:
    """The whole scale, and what the next level takes; no count of checks."""
    code, out, _ = say("verify", folder)
    assert code == 0
    assert out.split("\n")[-7:] == [
        f"{folder}: L0, unsigned: the files agree with each other, and the score follows from the answers; that the run happened is not proved",
        "  L0  shown      it agrees with itself",
        "  L1  not shown  somebody signed it: unsigned",
        "  L2  not shown  a platform witnessed it: no witness: --witness FOLDER, the notebook version as you fetched it (runspec kaggle fetch OWNER/NAME/VERSION)",
        "  L3  not shown  it was run again: not run again",
        "next, L1: a signature (`runspec sign`) by a key that you trust (`verify --trust KEYS`)",
        "",
    ]
    assert "checks passed" not in out


def test_signing_and_verifying_by_the_printed_line(
    archive: Path, ann: SigningKey, tmp_path: Path, say: Callable[..., Said]
) -> None:
    """The line that ``sign`` prints is one that ``--trust`` reads."""
    code, out, _ = say("sign", archive, "--key", tmp_path / "ann.pem")
    assert (code, out.split("\n")[0]) == (0, f"{archive}: signed by {ann.public.fingerprint}")
    (tmp_path / "signers").write_text(out.split("\n")[2])
    code, out, _ = say("verify", archive, "--trust", tmp_path / "signers", "--json")
    document = json.loads(out)
    assert (code, document["trust_level"], document["trust"]["level"]) == (0, "L1", "L1")
    assert [(row["level"], row["shown"]) for row in document["trust"]["levels"]] == [
        ("L0", True), ("L1", True), ("L2", False), ("L3", False)]  # fmt: skip
    assert (
        document["trust"]["levels"][1]["found"]
        == f"signed by you@example.org ({ann.public.fingerprint}), a key that you trust"
    )
    code, out, _ = say("sign", archive, "--key", tmp_path / "ann.pem", "--json")
    assert json.loads(out) == {
        "ok": True, "evidence": str(archive), "package": None, "fresh": False, "key": ann.public.openssh,
        "fingerprint": ann.public.fingerprint, "signers": [ann.public.fingerprint],
        "identity": None, "replaced": False,
    }  # fmt: skip


def test_who_asks_for_a_signature_gets_exit_code_5_without_one(
    folder: Path, ann: SigningKey, tmp_path: Path, say: Callable[..., Said]
) -> None:
    """The headline claims nothing then."""
    (tmp_path / "signers").write_text(ann.public.openssh)
    code, out, _ = say("verify", folder, "--trust", tmp_path / "signers")
    assert code == 5
    assert f"{folder}: NOT verified: a check failed, so it proves nothing" in out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("verify", "{folder}", "--trust", "none"), "U151"),
        (("verify", "{folder}", "--witness", "none"), "U155"),
        (("sign", "{folder}"), "U150"),
        (("sign", "{folder}", "--key", "none"), "U150"),
    ],
)
def test_what_is_missing_is_named(folder: Path, say: Callable[..., Said], words: tuple[str, ...], code: str) -> None:
    """Exit code 2, and nothing is written."""
    said = say(*(word.format(folder=folder) for word in words))
    assert said[0] == 2
    assert f"error[{code}]" in said[2]
    assert not (folder / SIGNATURES).exists()


def test_evidence_that_fails_is_not_signed(
    folder: Path, ann: SigningKey, tmp_path: Path, say: Callable[..., Said]
) -> None:
    """Exit code 5."""
    (folder / "metrics.jsonl").unlink()
    code, _, err = say("sign", folder, "--key", tmp_path / "ann.pem")
    assert code == 5
    assert "error[U153]" in err
