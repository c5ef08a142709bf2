"""Which engine made a run: the digest of its files, and that of the wheel that it was installed from.

In: nothing. Out: ``engine_files`` of the run record's environment: ``tree``, the SHA-256 of the canonical JSON of {path: SHA-256 of the file}
over the package's modules, schemas and templates, the same in a checkout and installed; ``wheel``, the SHA-256 of the wheel where pip has noted
it (PEP 610: installed from a file or an address), else None.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import engine
from engine.assets import asset
from engine.canonical import JsonObject, digest_file, digest_json

DISTRIBUTION = "runspec-engine"


@cache
def engine_files() -> JsonObject:
    """Read once for each process: the files of a running engine do not change."""
    package = Path(engine.__file__).parent
    folders = {"engine": package, "schemas": asset("schemas"), "templates": asset("templates")}
    files = {
        f"{name}/{path.relative_to(folder).as_posix()}": digest_file(path)
        for name, folder in folders.items()
        for path in folder.rglob("*.py" if name == "engine" else "*")
        if path.is_file() and "_assets" not in path.relative_to(folder).parts
    }
    return {"tree": digest_json(files), "wheel": _wheel()}


def _wheel() -> str | None:
    try:
        noted = distribution(DISTRIBUTION).read_text("direct_url.json")
        sha256 = json.loads(noted or "{}").get("archive_info", {}).get("hashes", {}).get("sha256")
    except (PackageNotFoundError, ValueError, AttributeError, OSError):  # not installed, or noted in another form
        return None
    return sha256 if isinstance(sha256, str) else None
