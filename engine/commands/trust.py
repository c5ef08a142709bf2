"""``sign``: a signature over the statement of what was made."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply
from engine.commands.loading import is_spec, load
from engine.commands.reading import evidence_of
from engine.evidence import package as pack
from engine.evidence.signing.private_keys import read_signing_key
from engine.evidence.signing.sign import sign as add_signature
from engine.pipeline.plan import relative
from engine.printable import one_line


def sign(arguments: Namespace) -> Reply:
    """Sign the statement of a folder or zip; of a run-spec: of its evidence folder, which is packed again."""
    key = read_signing_key(Path(arguments.key).expanduser() if arguments.key is not None else None)
    path = evidence_of(arguments.run)
    signing = add_signature(path, key)
    verb = "signed by" if signing.fresh else "is signed already by"
    lines = [f"{one_line(str(path))}: {verb} {signing.key.fingerprint}"]
    packed = None
    if path.is_dir() and is_spec(arguments.run) and Path(arguments.run).suffix in (".yaml", ".yml"):
        spec, _ = load(arguments.run)
        packed = relative(pack(path, spec.resolve(spec.package.dir), spec.package.name), spec.root)
        lines.append(f"package   {packed}")
    lines += ["a reader verifies it with: runspec verify PATH --trust KEYS, where KEYS has this line",
              f"  you@example.org {signing.key.openssh}"]  # fmt: skip
    document: JsonObject = {"ok": True, "evidence": str(path), "package": packed, "fresh": signing.fresh,
                            "key": signing.key.openssh, "fingerprint": signing.key.fingerprint,
                            "signers": list(signing.signers)}  # fmt: skip
    return Reply(document, "\n".join(lines))
