"""``artifact.json``: what a published artifact says of itself, sealed with its own digest.

In: the values of a publication; or the bytes of a manifest that is there. Out: the manifest's text; or its values, checked
(:class:`Read`), or the reason why they are not what was published.

    {"type": …, "kind": …, "fingerprint": …, "facts": {…}, "ingredients": {…}, "started_at": …, "finished_at": …,
     "digest": …, "files": {path: {"sha256": …, "bytes": …}}, "manifest_sha256": …}

``manifest_sha256`` is the digest of all other keys (engine.canonical.sealed). Engines before it wrote the same keys without
it. Such a manifest is taken for what it says where its fingerprint follows from its ingredients, and the first run that
uses the artifact checks all its files and seals it (``Store.seal``). A sealed manifest never passes for one of these: a
key of another name is one key too many.

    >>> read_manifest(b"[]", "dataset", "f" * 64)
    'artifact.json is not what was written'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.canonical import JsonMapping, JsonObject, digest_json, pretty_json, sealed, unsealed

MANIFEST, SEAL = "artifact.json", "manifest_sha256"
DAMAGED = f"{MANIFEST} is not what was written"
SHAPE: Mapping[str, type] = {
    "type": str, "kind": str, "fingerprint": str, "facts": dict, "ingredients": dict, "started_at": str,
    "finished_at": str, "digest": str, "files": dict,
}  # fmt: skip
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Read:
    """The values of a manifest; ``is_sealed`` is False for one of an engine before the seal."""

    values: JsonObject
    is_sealed: bool


def manifest_text(values: JsonMapping) -> str:
    """The file."""
    return pretty_json(sealed(values, SEAL))


def fingerprint_in(data: bytes) -> str:
    """The fingerprint that the bytes of a manifest name, checked by nobody yet; empty where they name none."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    return str(values.get("fingerprint", "")) if isinstance(values, dict) else ""


def read_manifest(data: bytes, type_: str, fingerprint: str) -> Read | str:
    """The manifest of this artifact, or why the bytes are not it."""
    values, is_sealed = unsealed(data, SEAL), True
    if values is None:
        values, is_sealed = _of_older_engine(data), False
    if values is None or not _has_shape(values):
        return DAMAGED
    if (values["type"], values["fingerprint"]) != (type_, fingerprint):
        return f"{MANIFEST} is that of another artifact"
    return Read(values, is_sealed)


def _of_older_engine(data: bytes) -> JsonObject | None:
    """A manifest without a seal, as far as it can be checked: its fingerprint is the digest of its ingredients."""
    try:
        values = json.loads(data)
        if not isinstance(values, dict) or data != pretty_json(values).encode():
            return None
        return values if values.get("fingerprint") == digest_json(values.get("ingredients")) else None
    except (ValueError, RecursionError):
        return None


def _has_shape(values: JsonMapping) -> bool:
    """Exactly these keys, of these types."""
    if values.keys() != SHAPE.keys() or not all(isinstance(values[key], kind) for key, kind in SHAPE.items()):
        return False
    return all(map(_is_file, values["files"].values()))


def _is_file(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "bytes"}:
        return False
    size, digest = entry["bytes"], entry["sha256"]
    return type(size) is int and isinstance(digest, str) and _HEX64.fullmatch(digest) is not None
