"""The sections of model and dataset, and every path: inside the project, and existing if it is read (S301 to S305, S307, S313, S316, S319, S322).

All paths are relative to the project folder and stay in it, links included: the project can then be
handed to a stranger. ``model.path`` alone may be a link that leads out, since weights are seldom kept in a project; the
configuration in it is judged as the trainer will judge it (M101 to M108). So is the folder of ``model.kaggle``, where it is on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from pathlib import PurePosixPath

from engine.errors import InputInvalid, did_you_mean
from engine.protocol.kaggle_models import FORM, found_model, parse_kaggle_model
from engine.runspec.findings import Case
from engine.runspec.model import PackageSpec, default_evidence_dir
from engine.runspec.model_folder import advice, missing_parts
from engine.runspec.nodes import Mapping, Path, Scalar, SourcePosition, text_of

MODELINE = "yaml-language-server: $schema="
FIELDS = {
    "trace": ("prompt", "steps", "final_answer"),
    "prompt_completion": ("prompt", "completion"),
    "chat": ("messages", "role", "content"),
}
# (key, role): a file or folder that is read, or a folder that is written
_PATHS: tuple[tuple[Path, str], ...] = (
    (("model", "path"), "folder"), (("dataset", "path"), "file"), (("eval_set",), "file"),
    (("eval_set", "path"), "file"),
    (("evidence", "dir"), "output"), (("package", "dir"), "output"),
)  # fmt: skip
_RESERVED = (".git", ".runspec", "engine", "schemas", "templates")


def check_model(case: Case) -> None:
    """Its weights come from one place, and that is a version."""
    model = case.tree.get("model")
    if not isinstance(model, Mapping):
        return
    text = case.good_text("model", "kaggle")
    if text is None:
        return
    for key, message in (
        ("path", "path and kaggle both say where the weights are"),
        ("revision", "revision applies only to the hub: the version of a model on Kaggle is the last part of kaggle"),
    ):
        if case.good_text("model", key) is not None:
            case.findings.error("S307", message, ("model", key), case.key_position("model", key), f"remove {key}")
    try:
        parse_kaggle_model(text)
    except ValueError as error:
        path = ("model", "kaggle")
        case.findings.error("S322", f'kaggle cannot be "{text}": {error}', path, _position(case, path), FORM)


def _check_kaggle_folder(case: Case) -> None:
    """The files of a model on Kaggle, where they are on this machine: mounted in this session, or in the cache."""
    text = case.good_text("model", "kaggle")
    found = found_model(parse_kaggle_model(text), os.environ) if text else None
    if text is None or found is None:
        return
    for code, message, hint in _model_folder("model.kaggle", text, found.folder):
        case.findings.error(code, message, ("model", "kaggle"), _position(case, ("model", "kaggle")), hint)


def check_dataset(case: Case) -> None:
    """A mapping names a file or a repository, and its keys belong to what it names."""
    dataset = case.tree.get("dataset")
    if not isinstance(dataset, Mapping):
        return
    if "path" not in dataset.entries and "hub" not in dataset.entries:
        hint = "write `dataset: NAME` for one that is built, or {path: rows.jsonl}, or {hub: owner/name}"
        message = "the dataset names neither a path nor a hub repository"
        case.findings.error("S305", message, ("dataset", "path"), case.key_position("dataset"), hint)
    for key in ("revision", "split"):
        if key in dataset.entries and "hub" not in dataset.entries:
            message = f"{key} applies only with hub"
            hint = "remove it, or name the repository: hub: owner/name"
            case.findings.error("S305", message, ("dataset", key), case.key_position("dataset", key), hint)
    format_ = text_of(dataset.get("format")) or "trace"
    fields, known = dataset.get("fields"), FIELDS.get(format_)
    for key, entry in fields.entries.items() if isinstance(fields, Mapping) and known else ():
        if known and key not in known:
            near = did_you_mean(key, known)
            hint = (f'did you mean "{near}"?\n' if near else "") + f"fields: {', '.join(known)}"
            message = f'rows of format {format_} have no field "{key}"'
            case.findings.error("S305", message, ("dataset", "fields", key), entry.key, hint)


def check_paths(case: Case) -> None:
    """Every path of the spec."""
    for path, role in _PATHS:
        text = _effective(case, path)
        if text is None:
            continue
        position = _position(case, path)
        remote = path == ("dataset", "path") and case.at("dataset", "hub") is not None
        needed = "inside the repository" if remote else role
        for code, message, hint in _path_findings(".".join(map(str, path)), text, needed, case):
            case.findings.error(code, message, path, position, hint)
            if code != "S319" and not code.startswith(
                "M"
            ):  # of a path the first finding says it; of a model's files each
                break
    _check_kaggle_folder(case)
    _check_outputs(case)


def _effective(case: Case, path: Path) -> str | None:
    """The path that the run will take: as written, or the default of an output folder; None where something is wrong with it."""
    node = case.at(*path)
    if node is not None:
        return case.good_text(*path) if isinstance(node, Scalar) else None
    if path == ("package", "dir"):
        return PackageSpec("").dir
    run_version = case.good_text("run_version")
    return default_evidence_dir(run_version) if path == ("evidence", "dir") and run_version else None


_Problem = tuple[str, str, str]  # code, message, hint


def _path_findings(name: str, text: str, role: str, case: Case) -> Iterator[_Problem]:
    yield from _malformed(name, text, case)
    if role == "inside the repository":
        return
    root = case.root.resolve()
    try:
        lexical = FilePath(os.path.normpath(root / text))
        target = (root / text).resolve()
        if not lexical.is_relative_to(root):
            yield "S301", f"{name} leads out of the project", f"copy it into {root.name}/ and name it from there"
        elif not target.is_relative_to(root) and name != "model.path":
            hint = "remove the link, or name another folder" if role == "output" else f"copy it into {root.name}/"
            yield "S301", f"{name} leads out of the project through a link ({text})", hint
        elif role == "output":
            yield from _output(name, target, root)
        else:
            yield from _read(name, text, target, role, root)
            yield from _unreadable(name, text, target)
    except (OSError, ValueError, RuntimeError) as error:  # too long, a loop of links
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield "S303", f"{name} cannot be looked up: {reason}", "check the path"


def _malformed(name: str, text: str, case: Case) -> Iterator[_Problem]:
    if "://" in text:
        yield "S302", f"{name} is an address, not a path", "download it into the project and name the file"
    elif text.startswith(("~", "/")) or text[1:3] in (":\\", ":/"):
        link = ", or link it: ln -s PATH models/NAME" if name == "model.path" else ""
        hint = f"write it relative to the project folder {case.root.name}/, so that others can run this{link}"
        yield "S302", f"{name} is an absolute path", hint
    elif "\\" in text:
        yield "S302", f"{name} has backslashes", f"write {text.replace(chr(92), '/')}, which works everywhere"


def _output(name: str, target: FilePath, root: FilePath) -> Iterator[_Problem]:
    if target == root:
        yield "S304", f"{name} is the project folder itself", "name a folder inside it"
    elif target.relative_to(root).parts[0] in _RESERVED:
        yield "S304", f"{name} is in {target.relative_to(root).parts[0]}/", "name a folder of its own"
    elif any(path.is_file() for path in (target, *target.parents)):
        yield "S303", f"{name} is a file, not a folder", "name a folder"


def _read(name: str, text: str, target: FilePath, role: str, root: FilePath) -> Iterator[_Problem]:
    if target.is_dir() and role == "file":
        files = sorted(entry.name for entry in target.iterdir() if entry.suffix == ".jsonl")
        named = f", say {PurePosixPath(text) / files[0]}" if files else ""
        yield "S303", f"{name} is a folder, not a file", f"name the JSONL file in it{named}"
    elif target.is_file() and role == "folder":
        yield "S303", f"{name} is a file, not a folder", "name the folder that holds config.json and the weights"
    elif not target.exists():
        around = [entry.name for entry in target.parent.iterdir()] if target.parent.is_dir() else []
        near = did_you_mean(target.name, around)
        hint = f'did you mean "{PurePosixPath(text).with_name(near)}"?' if near else ""
        if not hint and name == "model.path":
            hint = f"put the model's folder there, or link it: mkdir -p {PurePosixPath(text).parent} && ln -s FOLDER {text}"
        yield "S303", f"{name}: there is no such {role}", hint or f"paths start at the project folder, {root.name}/"
    elif not target.is_dir() and not target.is_file():  # reading it could wait for ever
        yield "S303", f"{name} is a pipe, a socket or a device, not a {role}", "save what it gives into a file"
    elif name == "model.path":
        yield from _model_folder(name, text, target)


def _model_folder(name: str, text: str, folder: FilePath) -> Iterator[_Problem]:
    """What the trainer would say about the folder without reading its weights, by the same functions."""
    from engine.model_config.folder_files import folder_findings  # only for those who have a folder

    for one in folder_findings(folder):
        yield one.code, f"{PurePosixPath(text)}/{one.message}", one.hint or "fetch the folder again"
    if lacking := missing_parts(folder):
        yield "S319", f"{name} is not a complete model: there is no {', no '.join(lacking)}", advice(folder)
    elif os.path.lexists(folder / "config.json"):  # the configuration of a Flax variation is in its shapes
        yield from _configuration(text, folder)


def _unreadable(name: str, text: str, target: FilePath) -> Iterator[_Problem]:
    """A file that is there and cannot be read: said now, and not by the step that reads it."""
    if not target.is_file():
        return
    try:
        os.close(os.open(target, os.O_RDONLY))
    except OSError as error:
        hint = f"give this user the right to read it: chmod u+r {text}"
        yield "S303", f"{name}: {text} cannot be read: {error.strerror or error}", hint


def _configuration(text: str, folder: FilePath) -> Iterator[_Problem]:
    """What the trainer would say about the folder's config.json, by the same function."""
    from engine.model_config import CONFIG_FILE, read_folder  # a few classes, only for those who have a folder

    try:
        read_folder(folder)
    except InputInvalid as error:
        for one in error.diagnostics:
            yield one.code, f"{PurePosixPath(text) / CONFIG_FILE}: {one.message}", one.hint or "correct it"


def _check_outputs(case: Case) -> None:
    """Neither output folder may contain an input of the run, nor the evidence folder its own zip."""
    folders = {key: _target(case, key, "dir") for key in ("evidence", "package")}
    inputs = [
        case.spec_path,
        *filter(None, (_target(case, *map(str, path)) for path, role in _PATHS if role == "file")),
    ]
    for key, folder in folders.items():
        inside = next((path for path in inputs if folder and path.is_relative_to(folder)), None)
        if inside is not None:
            message = f"{key}.dir contains {inside.name}, which the run reads"
            case.findings.error(
                "S316", message, (key, "dir"), _position(case, (key, "dir")), "name a folder of its own"
            )
    evidence, package, path = folders["evidence"], folders["package"], ("package", "dir")
    if evidence and package and package.is_relative_to(evidence):
        message = "package.dir is inside evidence.dir: the zip would become part of what it packs"
        case.findings.error("S316", message, path, _position(case, path), "name a folder beside it")


def _position(case: Case, path: Path) -> SourcePosition:
    """Of the value; where it is left out, of the nearest mapping around it."""
    node = case.at(*path)
    return case.key_position(*path) if node is None else node.position


def _target(case: Case, *path: str) -> FilePath | None:
    text = _effective(case, path)
    return FilePath(os.path.normpath(case.root.resolve() / text)) if text else None


def check_modeline(case: Case, text: str) -> None:
    """A warning where no line names the schema for editors."""
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if MODELINE in line:
            return
    folder = case.spec_path.parent
    try:
        schema = PurePosixPath(os.path.relpath(case.root.resolve() / "schemas" / "runspec.schema.json", folder))
    except ValueError:  # another drive
        schema = PurePosixPath("../schemas/runspec.schema.json")
    hint = f"add as the first line: # {MODELINE}{schema}"
    message = "editors do not know the schema of this file, and cannot complete or check it"
    case.findings.warn("S313", message, (), case.key_position(), hint)
