"""``sign``: a signature over the statement of what was made, by a key or as somebody, or over the weights; and what a reader of ``verify`` brings."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.canonical import JsonObject
from engine.commands import Reply
from engine.commands.loading import is_spec, load, refuse_evidence
from engine.commands.reading import evidence_of
from engine.commands.rerun import projects_of
from engine.errors import InputInvalid
from engine.evidence import evidence_names
from engine.evidence import package as pack
from engine.evidence.about import SIGSTORE
from engine.evidence.contents import Reader
from engine.evidence.signing.private_keys import read_signing_key
from engine.evidence.signing.sign import sign as add_signature
from engine.evidence.signing.sigstore_bundle import TrustedIdentity
from engine.evidence.signing.sigstore_sign import Instance, sign_as_identity, trusted_identity
from engine.evidence.signing.trust import TrustedKeys, is_elliptic_file, read_trusted_keys
from engine.evidence.signing.weights import Weights, read_weights
from engine.evidence.signing.weights_sign import exported_weights, sign_weights, signature_answer
from engine.evidence.witness import read_witness
from engine.pipeline.plan import relative
from engine.printable import one_line

# option -> the option that it belongs to
OF_SIGN = {"identity_token": "sigstore", "staging": "sigstore", "trust_config": "sigstore", "out": "weights"}
OF_VERIFY = {"trust_issuer": "trust_identity", "trust_identity": "trust_issuer", "staging": "trust_identity",
             "trust_config": "trust_identity", "offline": "trust_identity", "signature": "weights"}  # fmt: skip


def sign(arguments: Namespace) -> Reply:
    """Sign the statement of a folder or zip; of a run-spec: of its evidence folder, which is packed again. With --weights: the model."""
    _require_company(arguments, OF_SIGN)
    if arguments.sigstore and (arguments.key is not None or arguments.weights):
        other = "--key" if arguments.key is not None else "--weights"
        raise InputInvalid("U175", f"--sigstore signs as somebody, without a key: it does not go with {other}",
                           hint="sign twice: once with each")  # fmt: skip
    key_file = Path(arguments.key).expanduser() if arguments.key is not None else None
    if arguments.weights:
        return _sign_weights(arguments, key_file)
    if arguments.sigstore:
        return _sign_as_identity(arguments)
    key = read_signing_key(key_file)
    path = evidence_of(arguments.run)
    signing = add_signature(path, key)
    verb = "signed by" if signing.fresh else "is signed already by"
    packed = _packed_again(arguments.run, path)
    lines = [f"{one_line(str(path))}: {verb} {signing.key.fingerprint}", *([f"package   {packed}"] if packed else []),
             "a reader verifies it with: runspec verify PATH --trust KEYS, where KEYS has this line",
             f"  you@example.org {signing.key.openssh}"]  # fmt: skip
    document: JsonObject = {"ok": True, "evidence": str(path), "package": packed, "fresh": signing.fresh,
                            "key": signing.key.openssh, "fingerprint": signing.key.fingerprint,
                            "signers": list(signing.signers), "identity": None, "replaced": False}  # fmt: skip
    return Reply(document, "\n".join(lines))


def _sign_as_identity(arguments: Namespace) -> Reply:
    path = evidence_of(arguments.run)
    token = Path(arguments.identity_token).expanduser() if arguments.identity_token is not None else None
    signing = sign_as_identity(path, _instance(arguments), token)
    packed, who = _packed_again(arguments.run, path), one_line(signing.identity)
    replaced = f" (replaces another {SIGSTORE})" if signing.replaced else ""
    lines = [f"{one_line(str(path))}: signed as {who}{replaced}", *([f"package   {packed}"] if packed else []),
             f"a reader verifies it with: runspec verify PATH --trust-identity {who} --trust-issuer URL, where URL is who knows you"]  # fmt: skip
    document: JsonObject = {"ok": True, "evidence": str(path), "package": packed, "fresh": True, "key": None, "fingerprint": None,
                            "signers": [signing.identity], "identity": signing.identity, "replaced": signing.replaced}  # fmt: skip
    return Reply(document, "\n".join(lines))


def _packed_again(word: str, path: Path) -> str | None:
    """The package of a run-spec, which gets the signature too; None for a folder or zip, which is signed by itself."""
    if not path.is_dir() or not is_spec(word) or Path(word).suffix not in (".yaml", ".yml"):
        return None
    spec, _ = load(word)
    return relative(pack(path, spec.resolve(spec.package.dir), spec.package.name), spec.root)


def _sign_weights(arguments: Namespace, key: Path | None) -> Reply:
    folders = _model_folders(arguments.run)
    if arguments.out is not None and len(folders) > 1:
        raise InputInvalid("U175", f"--out names one file, and the run exported {len(folders)} folders",
                           hint=f"name one of them: {', '.join(map(str, folders.values()))}")  # fmt: skip
    rows = []
    for beside, folder in folders.items():
        out = Path(arguments.out).expanduser() if arguments.out is not None else beside
        _require_outside(out, folder)
        sign_weights(folder, key, out)
        rows.append({"folder": str(folder), "signature": str(out)})
    lines = [f"{one_line(row['folder'])}: signed, the signature is {one_line(row['signature'])}" for row in rows]
    lines += ["a reader verifies it with: runspec verify PATH --weights FOLDER --signature FILE --trust PUBLIC_KEY, where PUBLIC_KEY has",
              f"  openssl ec -pubout -in {one_line(str(key))}"]  # fmt: skip
    return Reply({"ok": True, "signatures": rows}, "\n".join(lines))


def _require_outside(out: Path, folder: Path) -> None:
    """U175, U146 where the signature would be a file of what it is over, or of evidence."""
    if folder.resolve() in out.resolve().parents:
        raise InputInvalid("U175", f"{out} lies in the folder that is signed, and would be a file of it",
                           hint="name a file elsewhere: --out FILE")  # fmt: skip
    refuse_evidence(out.parent, f"sign … --out {Path('..') / out.name}")


def _model_folders(word: str) -> Mapping[Path, Path]:
    """The signature's file -> the folder: of a model folder that is named, or of what a run exported. Raises U176."""
    named = Path(word)
    if named.is_dir() and not evidence_names(named):
        home = named.resolve()
        return {home.with_name(f"{home.name}.sig"): named}
    path = evidence_of(word)
    home, name = path.resolve(), path.resolve().name.removesuffix(".zip")
    folders = exported_weights(path, projects_of(word, path))
    return {home.with_name(f"{name}.{folder.name}.sig"): folder for folder in folders}


def reader_of(arguments: Namespace) -> Reader:
    """What a reader of ``verify`` brings. Raises U151, U155, U172, U173, U175, U176, U178, X101."""
    _require_company(arguments, OF_VERIFY)
    files = [Path(word).expanduser() for word in arguments.trust or ()]
    elliptic = [file for file in files if is_elliptic_file(file)]
    keys = [read_trusted_keys(file) for file in files if file not in elliptic]
    if elliptic and arguments.weights is None:
        raise InputInvalid("U175", f"{elliptic[0]} is a key on an elliptic curve, which signs weights: --weights is not given",
                           hint="evidence is signed by Ed25519 keys; or name the model: --weights FOLDER")  # fmt: skip
    if len(elliptic) > 1:
        raise InputInvalid(
            "U175", f"{elliptic[0]} and {elliptic[1]} are both keys for the weights", hint="name one of them"
        )
    return Reader(
        trust=TrustedKeys(" and ".join(one.source for one in keys), [key for one in keys for key in one.entries]) if keys else None,
        witness=read_witness(Path(arguments.witness)) if arguments.witness is not None else None,
        identity=_identity(arguments),
        weights=_weights(arguments, elliptic[0] if elliptic else None),
    )  # fmt: skip


def _identity(arguments: Namespace) -> TrustedIdentity | None:
    if arguments.trust_identity is None:
        return None
    return trusted_identity(
        arguments.trust_identity, arguments.trust_issuer, _instance(arguments), offline=arguments.offline
    )


def _weights(arguments: Namespace, key: Path | None) -> Weights | None:
    """With the signature that is named, or that lies beside the folder where a key for it is named."""
    if arguments.weights is None:
        return None
    folder = Path(arguments.weights).expanduser()
    weights = read_weights(folder)
    if arguments.signature is None and key is None:
        return weights
    home = folder.resolve()
    named = arguments.signature or home.with_name(f"{home.name}.sig")
    return replace(weights, signature=signature_answer(weights, Path(named).expanduser(), key))


def _require_company(arguments: Namespace, needs: Mapping[str, str]) -> None:
    """U175 for an option without the one that it belongs to."""
    for name, other in needs.items():
        if getattr(arguments, name) not in (None, False) and getattr(arguments, other) in (None, False):
            option, wanted = (f"--{word.replace('_', '-')}" for word in (name, other))
            raise InputInvalid(
                "U175", f"{option} is for {wanted}, which is not given", hint=f"see `{wanted}` in --help"
            )


def _instance(arguments: Namespace) -> Instance:
    if arguments.staging and arguments.trust_config is not None:
        raise InputInvalid("U175", "--staging and --trust-config name two instances", hint="leave one of them out")
    return Instance(arguments.staging, Path(arguments.trust_config).expanduser() if arguments.trust_config else None)
