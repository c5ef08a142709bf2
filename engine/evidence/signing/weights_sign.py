"""A signature over the files of a model folder (OpenSSF model signing): made beside the folder, and what one is worth to a reader (V32).

In: the folder, a key on an elliptic curve (PEM), the signature's file. Out: the file, or the answer of the check. Without the key that the
reader trusts a signature is nobody's; the library of the extra ``model-signing`` verifies it, and what it names must be every file that
is there: a signer can tell the library to ignore some.

    sign_weights(Path("model"), Path("key.pem"), Path("model.sig"))
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.artifacts.store import Store
from engine.canonical import JsonObject, write_atomic
from engine.errors import InputInvalid, RunFailed
from engine.evidence.about.dependencies import exported_folders
from engine.evidence.checks.recorded import recorded_run
from engine.evidence.contents import Answer, Evidence, answer
from engine.evidence.signing.envelope import PAYLOAD_TYPE, NotAnEnvelope, envelope_of
from engine.evidence.signing.private_keys import passphrase_of, read_private_key_file
from engine.evidence.signing.sign import signable
from engine.evidence.signing.weights import KeyIsEncrypted, OtherFiles, Weights, read_weights
from engine.extras import require
from engine.os_errors import hint_for

Write = Callable[[Path, Path], None]  # (folder, file to write)
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_BYTES = 32 << 20
MAKE_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out KEY; chmod 600 KEY"
NO_KEY = "there is one, by a key that you did not name: --trust KEY, its public key on an elliptic curve (PEM)"


class NotOverAFolder(Exception):
    """Why a file is no signature over a model folder."""


def sign_weights(folder: Path, key: Path | None, out: Path) -> None:
    """Write the signature. Raises X101, U150 (the key), U154 (cannot be written), U176 (the folder)."""
    signer, _ = _library("signing weights")
    if key is None:
        raise InputInvalid("U150", "sign --weights needs a key on an elliptic curve", hint=f"--key KEY; {MAKE_KEY}")
    read_private_key_file(key)
    try:
        try:
            write = signer(key, None)
        except KeyIsEncrypted:
            write = signer(key, passphrase_of(key))
    except ValueError as error:
        why = f"the key {key} cannot sign weights, which takes one of P-256, P-384 or P-521 as PEM: {error}"
        raise InputInvalid("U150", why, hint=MAKE_KEY) from error
    with tempfile.TemporaryDirectory(prefix="runspec-sign-") as temporary:
        made = Path(temporary) / "made.sig"
        try:
            write(folder, made)
        except ValueError as error:  # a link
            raise InputInvalid("U176", f"{folder} cannot be signed: {error}", hint="copy its files: cp -rL") from error
        try:
            write_atomic(out, made.read_bytes())
        except OSError as error:
            raise RunFailed("U154", f"the signature cannot be written: {error.filename or out}: {error.strerror or error}",
                            hint=hint_for(error.errno) or "name another file: --out FILE") from error  # fmt: skip


def exported_weights(path: Path, projects: Sequence[Path]) -> list[Path]:
    """The folders that the run of this evidence exported, in a store, with the recorded files. Raises U152, U153, U176."""
    record = recorded_run(Evidence(signable(path)))
    train, exported = record.step_of("train_sft"), exported_folders(record)
    if train is None or not exported:
        raise InputInvalid("U176", f"{path} is of a run that exported no model", hint="runspec sign FOLDER --weights")
    stores = [Store(project) for project in projects]
    found = [store.find(train.artifact.type, train.artifact.fingerprint) for store in stores]
    homes = [artifact.path for artifact in found if artifact is not None]
    if not homes:
        where = " or ".join(str(store.root / "store") for store in stores) or "no project's store"
        raise InputInvalid("U176", f"the model of this evidence is not here: {where} does not have it",
                           hint="name its folder: runspec sign FOLDER --weights")  # fmt: skip
    return [_unchanged(homes[0] / folder, files) for folder, files in exported.items()]


def _unchanged(folder: Path, wanted: Mapping[str, str]) -> Path:
    """The folder, where its files are the recorded ones. Raises U176."""
    found = read_weights(folder).files
    other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if other:
        raise InputInvalid("U176", f"{folder} is not what the evidence records, so it is not signed: {', '.join(other[:3])}",
                           hint="run the step again: --force; or name another folder")  # fmt: skip
    return folder


def signature_answer(weights: Weights, signature: Path, key: Path | None) -> Answer:
    """What V32 says. Raises X101, U178 (the file cannot be read)."""
    try:
        signed = _resources(_read(signature))
        if key is None:
            return "n/a", NO_KEY
        problems = _by_the_library(weights, key, signature, signed)
    except NotOverAFolder as error:
        return "fail", f"{signature.name} is no signature over a model folder: {error}"
    problems += [f"{name} is not among the files that were signed" for name in sorted(weights.files.keys() - signed)]
    return answer(problems, f"{len(weights.files)} files, signed by the key {key.name}, which you trust")


def _library(what: str) -> tuple[Callable[[Path, bytes | None], Write], Callable[[Path, Path, Path], None]]:
    """Its two functions. Raises X101."""
    require("model-signing", what)
    from engine.evidence.signing.weights_library import require_signed, signer

    return signer, require_signed


def _by_the_library(weights: Weights, key: Path, signature: Path, signed: Mapping[str, str]) -> list[str]:
    _, require_signed = _library("verifying a signature over weights")
    try:
        require_signed(Path(weights.folder), key, signature)
    except OtherFiles as error:
        changed = [f"{name} has other bytes than were signed" for name, digest in sorted(signed.items())
                   if weights.files.get(name, digest) != digest]  # fmt: skip
        missing = [f"{name} was signed, and is missing" for name in sorted(signed.keys() - weights.files)]
        extra = weights.files.keys() - signed
        return [*changed, *missing] or ([] if extra else [f"{signature.name}: {error}"])
    except ValueError as error:
        return [f"{signature.name} is no signature by {key.name}: {error}"]
    return []


def _read(path: Path) -> JsonObject:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputInvalid("U178", f"the signature {path} cannot be read: {error.strerror or error}",
                           hint=hint_for(error.errno) or "--signature FILE; `runspec sign --weights` makes one") from error  # fmt: skip
    try:
        value = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotOverAFolder("it is no JSON object" if len(data) <= MAX_BYTES else "it is larger than 32 MiB")
    return value


def _resources(document: JsonObject) -> dict[str, str]:
    """File -> digest of what was signed; of a file in shards the first one's."""
    inner = document.get("dsseEnvelope")
    try:
        envelope = envelope_of(inner if isinstance(inner, dict) else {})
        statement = json.loads(envelope.payload)
        if envelope.payload_type != PAYLOAD_TYPE or statement["predicateType"] != PREDICATE_TYPE:
            raise NotOverAFolder(f"it is not of the kind {PREDICATE_TYPE}")
        in_shards = statement["predicate"]["serialization"]["method"] == "shards"
        rows = [(str(row["name"]), str(row["digest"])) for row in statement["predicate"]["resources"]]
    except NotAnEnvelope as error:
        raise NotOverAFolder(str(error)) from error
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise NotOverAFolder("its statement has no list of files") from error
    return {name.rsplit(":", 2)[0] if in_shards else name: digest for name, digest in reversed(rows)}
