"""``sign``, and how every command shows the level of trust: what is proved, the whole scale, and what the next level takes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import is_spec, load
from engine.commands.reading import evidence_of
from engine.evidence import package as pack
from engine.evidence.levels import Trust
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


def trust_document(trust: Trust) -> JsonObject:
    """For ``--json``."""
    levels = [
        {
            "level": rung.name,
            "title": rung.title,
            "shown": rung.shown,
            "found": rung.found,
            "proves": rung.proves,
            "takes": rung.takes,
        }
        for rung in trust.rungs
    ]
    return {"level": trust.level, "proves": trust.proves, "levels": levels}


def scale_text(trust: Trust) -> str:
    """The scale as lines, and what the next level takes."""
    rows = [
        (
            rung.name,
            "shown" if rung.shown else "not shown",
            rung.title + (f": {rung.found}" if rung.name != "L0" else ""),
        )
        for rung in trust.rungs
    ]
    if trust.level is None or trust.next is None:
        return columns(rows)
    return f"{columns(rows)}\nnext, {trust.next.name}: {trust.next.takes}"
