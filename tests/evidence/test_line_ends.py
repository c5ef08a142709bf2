"""Evidence is bytes: what the run read is what it holds, and line ends that were changed on the way are named once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.canonical import digest_bytes
from engine.evidence import Check, package, verify
from engine.project import GITATTRIBUTES
from tests.evidence.conftest import spec_text

CHANGED = "line ends were changed in "


def _failed(path: Path) -> list[Check]:
    return verify(path).failed


CRLF = spec_text().replace("\n", "\r\n").encode()


@pytest.mark.parametrize("data", [CRLF, b"\xef\xbb\xbf" + spec_text().encode()])
def test_a_run_spec_is_its_bytes(record: RunRecord, render: Any, data: bytes) -> None:
    """CRLF and a byte order mark are in the evidence as they are in the file, with the file's own digest."""
    folder = render(record, spec_bytes=data, spec_digest=digest_bytes(data))
    assert (folder / "runspec.yaml").read_bytes() == data
    assert _failed(folder) == []


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_conversion_is_said_once(record: RunRecord, render: Any, tmp_path: Path, newline: bytes) -> None:
    """All files by git or an editor, one file alone, or CRLF evidence turned into LF: one finding that says what to do."""
    data = spec_text().encode() if newline == b"\r\n" else CRLF
    folder = render(record, spec_bytes=data, spec_digest=digest_bytes(data))
    archive = package(folder, tmp_path / "submission", "toy")
    (folder / "runspec.yaml").write_bytes(data.replace(b"\r\n", b"\n").replace(b"\n", newline))
    [finding] = _failed(folder)
    assert (finding.id, finding.detail.split(":")[0]) == ("V02", f"{CHANGED}runspec.yaml")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", newline))
    [finding] = _failed(folder)
    assert (finding.id, CHANGED in finding.detail, "-text` into .gitattributes" in finding.detail) == (
        "V02",
        True,
        True,
    )
    assert {row.detail for row in verify(folder).checks[2:-1]} == {"not checked: line ends were changed, see V02"}
    assert _failed(archive) == []


def test_a_forged_file_among_them_is_named_too(record: RunRecord, render: Any) -> None:
    """Turned line ends hide no other change."""
    folder = render(record)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / "metrics.jsonl").write_bytes(b"{}\r\n")
    [finding] = _failed(folder)
    assert CHANGED in finding.detail
    assert "; metrics.jsonl has been changed" in finding.detail


def test_committed_evidence_survives_autocrlf(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """With the .gitattributes that `init` writes, a clone with core.autocrlf=true has the same bytes; without, verify says why not."""
    render(record, spec_bytes=CRLF, spec_digest=digest_bytes(CRLF))
    origin = tmp_path / "origin"
    (tmp_path / "submission_runs").rename(tmp_path / "moved")
    origin.mkdir()
    (tmp_path / "moved").rename(origin / "submission_runs")
    subprocess.run(["git", "init", "-q"], cwd=origin, check=True)
    for attributes, verified in ((GITATTRIBUTES, True), ("* text=auto\n", False)):
        (origin / ".gitattributes").write_text(attributes)
        subprocess.run(["git", "add", "."], cwd=origin, check=True, capture_output=True)
        subprocess.run(["git", "commit", "-qm", "evidence"], cwd=origin, check=True)
        clone = tmp_path / f"clone-{verified}"
        subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", str(origin), str(clone)], check=True)
        failed = _failed(clone / "submission_runs" / "toy_v1")
        assert [row.id for row in failed] == ([] if verified else ["V02"])
        assert verified or failed[0].detail.startswith(CHANGED)
