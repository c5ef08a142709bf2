"""verify.py as a stranger has it: a file, run by a Python of its own that sees neither the engine nor a library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.errors import RunspecError
from engine.evidence import verify
from engine.evidence.contents import NOBODY, Reader
from engine.evidence.standalone import verify_py
from engine.evidence.standalone.outcome import verification_json

# Checks many paths in one process: prints [exit code, document, what it wrote as errors] for each, a line each.
DRIVER = """
import contextlib, io, json, runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
for line in sys.stdin.read().splitlines():
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(["--json", *json.loads(line)])
    document = json.loads(out.buffer.getvalue() or "null")
    print(json.dumps([code, document, errors.buffer.getvalue().decode()]))
"""


class Said(NamedTuple):
    """What a verifier says of a path: exit code, and the document that ``--json`` prints."""

    code: int
    document: Any

    @property
    def statuses(self) -> dict[str, str]:
        """Check -> pass, fail or n/a; of a refusal its codes."""
        rows = self.document.get("checks") or self.document["diagnostics"]
        return {row.get("id") or row["code"]: row.get("status", "refused") for row in rows}


def python_of(version: str) -> str:
    """A Python of this version, from the path or beside the one that runs; skips where there is none."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python"))
    for candidate in filter(None, [shutil.which(f"python{version}"), *map(str, beside)]):
        words = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        said = subprocess.run(words, capture_output=True, text=True, check=False)
        if said.stdout.strip() == version:
            return candidate
    pytest.skip(f"there is no Python {version} on this machine")


@pytest.fixture(scope="session")
def verify_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, in a folder of its own."""
    path: Path = tmp_path_factory.mktemp("verify") / "verify.py"
    path.write_bytes(verify_py())
    return path


@pytest.fixture(scope="session")
def alone(verify_file: Path) -> Callable[..., list[Said]]:
    """``alone(paths)``: what verify.py says of each, in one process without site-packages."""

    def call(paths: Sequence[Path], python: str = sys.executable, options: Sequence[str] = ()) -> list[Said]:
        lines = "".join(json.dumps([os.fspath(path), *options]) + "\n" for path in paths)
        done = subprocess.run(
            [python, "-I", "-S", "-c", DRIVER, str(verify_file)], input=lines, capture_output=True, text=True, check=False,
            encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [
            Said(code, document) for code, document, errors in map(json.loads, done.stdout.splitlines()) if not errors
        ]

    return call


def by_engine(path: Path, reader: Reader = NOBODY) -> Said:
    """What `runspec verify` says."""
    try:
        verification = verify(path, reader)
    except RunspecError as error:
        return Said(error.exit_code, {"ok": False, "diagnostics": [one.as_json() for one in error.diagnostics]})
    return Said(0 if verification.ok else 5, json.loads(json.dumps(verification_json(verification))))


def disagreements(
    paths: Sequence[Path], said: Sequence[Said], *, details: bool = True, reader: Reader = NOBODY
) -> list[str]:
    """Paths of which the two say different things; without ``details`` the sentences may differ, which other Pythons word."""
    found = []
    for path, one in zip(paths, said, strict=True):
        other = by_engine(path, reader)
        if (one.code, one.statuses) != (other.code, other.statuses):
            changed = {id_: (other.statuses.get(id_), status) for id_, status in one.statuses.items()
                       if other.statuses.get(id_) != status}  # fmt: skip
            found.append(f"{path.name}: exit {other.code} and {one.code}, {changed}")
        elif details and one.document != other.document:
            found.append(f"{path.name}: {_other_words(other.document, one.document)}")
    return found


def _other_words(ours: Any, theirs: Any) -> str:
    rows = zip(
        ours.get("checks", ours.get("diagnostics")), theirs.get("checks", theirs.get("diagnostics")), strict=True
    )
    return "; ".join(f"{one}\n   {other}" for one, other in rows if one != other)[:1500]
