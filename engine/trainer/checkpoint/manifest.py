"""The manifest of a checkpoint, and the check that a training run may resume from it.

In: the folder of a checkpoint; the identity of the run that resumes (:class:`IdentityCheck`). Out: a :class:`Manifest`
whose every byte is what was written, or None; an error that names everything in which the two runs differ.

    checkpoint.json: {"format": 3, "made_by": …, "train_step": …, "identity": {…}, "topology": {…}, "data_position": {…},
                      "notes": {…}, "bytes": …, "files": {path: SHA-256}, "mark_sha256": …}

``mark_sha256`` is the digest of the canonical JSON of all other keys (engine.canonical.sealed). That rule stays whatever else a
later format changes, so that a manifest of a newer engine is told from a damaged one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.canonical import digest_json, pretty_json, sealed, unsealed, write_atomic
from engine.errors import Diagnostic, InputInvalid, Where
from engine.protocol.checkpoint_files import MANIFEST_FILE, SEAL
from engine.protocol.train_args import names_affecting
from engine.trainer.config.batch_shape import batch_shape
from engine.trainer.distributed.topology import Topology, TopologyJson

FORMAT = 3
SHOWN_CHARS = 24
Identity = Mapping[str, Any]  # name -> JSON value, of everything that decides the numbers
Notes = Mapping[str, Any]  # what the trainer wants back after a restore, JSON values
MATMUL_DTYPE = "matmul dtype"  # of the identity: what the devices multiply in, declared or chosen for them
# On other devices these may differ: the batch is the checkpoint's, the arguments say how it is split.
OF_DEVICES = (*(f"argument {name}" for name in names_affecting("batch_shape")), MATMUL_DTYPE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint records of itself. ``data_position``: {sequences_seen, sequences_per_step}; ``bytes``: of its files."""

    train_step: int
    identity: Identity
    topology: TopologyJson
    data_position: Mapping[str, int]
    notes: Notes
    bytes: int
    files: Mapping[str, str]
    made_by: str = ""
    format: int = FORMAT

    @property
    def sequences_per_step(self) -> int:
        """Of all devices and micro-batches together."""
        return self.data_position["sequences_per_step"]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The last file of a checkpoint. Raises OSError."""
    values = {**asdict(manifest), "made_by": engine_version()}
    write_atomic(folder / MANIFEST_FILE, pretty_json(sealed(values, SEAL)))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest, or None if a byte of it is not what was written. Raises InputInvalid T122 for another format."""
    try:
        values = unsealed((folder / MANIFEST_FILE).read_bytes(), SEAL)
        if values is None:
            return None
        file_format = int(values.get("format", 2))
    except (OSError, ValueError, TypeError):
        return None
    if file_format != FORMAT:
        raise _other_format(folder, file_format, str(values.get("made_by") or "an engine of unknown version"))
    known = {field.name for field in fields(Manifest)}
    if values.keys() != known or f"{values['train_step']:08d}" != folder.name:
        return None
    return Manifest(**values)


def manifest_digest(folder: Path) -> str | None:
    """The digest by which a checkpoint is named in the chain of sessions: of its manifest, which has those of all its files."""
    values = unsealed((folder / MANIFEST_FILE).read_bytes(), SEAL) if (folder / MANIFEST_FILE).is_file() else None
    return None if values is None else digest_json(values)


def _other_format(folder: Path, file_format: int, made_by: str) -> InputInvalid:
    newer = file_format > FORMAT
    return InputInvalid(
        "T122",
        f"the checkpoint of train step {int(folder.name)} has format {file_format}, and this engine "
        f"({engine_version()}) reads format {FORMAT}: it was written by {'a newer' if newer else 'an older'} "
        f"engine ({made_by})",
        where=Where(file=str(folder)),
        hint=f"to resume from it, {'update the engine' if newer else 'go back to that engine'}; "
        f"to start over, delete {folder.parent}",
    )


def engine_version() -> str:
    """Name and version, for people: what is compared is the digest of the code."""
    try:
        return f"runspec-engine {metadata.version('runspec-engine')}"
    except metadata.PackageNotFoundError:
        return "runspec-engine, not installed"


@dataclass(frozen=True, slots=True)
class IdentityCheck:
    """The identity of the training run that resumes; ``reshard``: it may resume from a checkpoint of other devices."""

    identity: Identity
    topology: Topology
    sequences_per_step: int
    reshard: bool = False

    def check(self, manifest: Manifest, folder: Path) -> None:
        """Raises InputInvalid T120 naming everything that differs, T123 if these devices cannot take the batch."""
        differences = list(self._differences(manifest))
        if differences:
            raise InputInvalid.of(
                Diagnostic(
                    "T120",
                    f"the checkpoint of train step {manifest.train_step} belongs to another training run: "
                    f"{name} was {_short(before)}, now it is {_short(now)}",
                    Where(file=str(folder)),
                    hint=_hint(name, folder),
                )
                for name, before, now in differences
            )
        if self.reshard:
            self._check_batch(manifest, folder)

    def _differences(self, manifest: Manifest) -> Iterator[tuple[str, object, object]]:
        """(name, the checkpoint's value, ours) of each."""
        identity = json.loads(pretty_json(dict(self.identity)))
        may_differ = OF_DEVICES if self.reshard else ()
        if MATMUL_DTYPE not in manifest.identity:  # an older engine's, which its code's digest names
            may_differ += (MATMUL_DTYPE,)
        for name in sorted({*manifest.identity, *identity} - {*may_differ}):
            if manifest.identity.get(name) != identity.get(name):
                yield name, manifest.identity.get(name), identity.get(name)
        if self.reshard:
            return
        if manifest.topology != self.topology.as_json():
            yield "topology", Topology.of_json(manifest.topology), self.topology
        elif manifest.sequences_per_step != self.sequences_per_step:
            yield "sequences a train step", manifest.sequences_per_step, self.sequences_per_step

    def move(self, manifest: Manifest) -> tuple[str, str] | None:
        """The checkpoint's devices and these, in words, where they differ in a way that changes the numbers."""
        was, now = Topology.of_json(manifest.topology), self.topology
        before, after = (str(identity.get(MATMUL_DTYPE)) for identity in (manifest.identity, self.identity))
        if before != after:
            return f"{was}, matmuls in {before}", f"{now}, matmuls in {after}"
        return (str(was), str(now)) if was.as_json() != now.as_json() else None

    def _check_batch(self, manifest: Manifest, folder: Path) -> None:
        """On other devices a train step keeps its sequences; only their split into micro-batches changes."""
        single_micro_batch = self.identity.get("argument update") == "in_backward"
        try:
            batch_shape(
                manifest.sequences_per_step,
                int(self.identity["argument per_device_batch_size"]),
                1,
                data_parallel_size=self.topology.mesh.get("fsdp", 1),
                most_micro_batches=1 if single_micro_batch else None,
            )
        except InputInvalid as error:
            was = Topology.of_json(manifest.topology)
            raise InputInvalid(
                "T123",
                f"the checkpoint's train steps take {manifest.sequences_per_step} sequences, which {self.topology} cannot: "
                f"{error.diagnostics[0].message}",
                where=Where(file=str(folder)),
                hint=f"{error.hint}; it was saved on {was}",
            ) from error


def _hint(name: str, folder: Path) -> str:
    if name in {"topology", MATMUL_DTYPE}:
        return (
            "resume there; or declare on_other_devices: reshard to resume here, no longer bit for bit; "
            f"to start over, delete {folder}"
        )
    means = {"trainer": "with the engine that wrote it", "library": "with those versions"}.get(name.partition(" ")[0])
    return f"resume {means or 'with what it was made from'}; to start over, delete {folder}"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    is_digest = len(text) == 64 and " " not in text
    return f"{text[:12]}…" if is_digest else text if len(text) <= SHOWN_CHARS * 3 else f"{text[: SHOWN_CHARS * 3]}…"
