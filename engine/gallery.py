"""What ``runspec init`` can write: the presets, the examples, and the shipped files that each of them refers to.

In: the folder ``runspecs/`` that ships with the engine. Out: a :class:`Shipped` for each name, and
the files of one with their paths in a project. ``runspecs/examples/`` is laid out like a project: the ``data/chat.jsonl``
of an example is shipped as ``runspecs/examples/data/chat.jsonl``.

>>> shipped()["quickstart"].group
'presets'
>>> sorted(project_files(shipped()["chat"].path))
['data/chat.jsonl', 'evalsets/library.jsonl', 'runspecs/chat.yaml']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.assets import asset

SCHEMA_PATH = "schemas/runspec.schema.json"  # where the modeline of a written run-spec looks for it
GROUPS = ("presets", "examples")
_KAGGLE_TARGET = re.compile(r"^#.*--target (kaggle-[\w-]+)", re.MULTILINE)
_MODELINE = re.compile(r"(# yaml-language-server: \$schema=)\S+")


@dataclass(frozen=True, slots=True)
class Shipped:
    """A run-spec that ships with the engine. ``about`` is its first comment line (the editor's modeline does not count)."""

    name: str
    group: str  # one of GROUPS
    path: Path
    about: str


def shipped() -> dict[str, Shipped]:
    """Name -> run-spec: the presets, then the examples. Names are unique (tests/gallery)."""
    folders = {"presets": asset("runspecs"), "examples": asset("runspecs", "examples")}
    return {
        path.stem: Shipped(path.stem, group, path, _first_comment(path.read_text(encoding="utf-8")))
        for group in GROUPS
        for path in sorted(folders[group].glob("*.yaml"))
    }


def _first_comment(text: str) -> str:
    for line in text.splitlines():
        words = line.lstrip("#").strip()
        if line.startswith("#") and words and not words.startswith("yaml-language-server"):
            return words
    return ""


def project_files(spec: Path) -> dict[str, str]:
    """The run-spec and the shipped files it refers to: path in the project -> content."""
    text = spec.read_text(encoding="utf-8")
    files = {f"runspecs/{spec.name}": _MODELINE.sub(rf"\g<1>../{SCHEMA_PATH}", text, count=1)}
    value = _read(spec)
    for path, source in (*_named_files(value), *_plugin_files(value)):
        files[path] = source.read_text(encoding="utf-8")
    return files


def commands_before(spec: Path) -> Iterator[str]:
    """The commands to type before ``runspec validate`` passes, for what the run-spec needs and the engine cannot ship."""
    value = _read(spec)
    if path := value["model"].get("path"):
        yield f"mkdir -p {PurePosixPath(path).parent} && ln -s YOUR_MODEL_FOLDER {path}"
    for folder in dict.fromkeys(str(PurePosixPath(path).parent) for path, _ in _plugin_files(value)):
        yield f"pip install ./{folder}"


def kaggle_target(spec: Path) -> str | None:
    """The machine of Kaggle's that the run-spec's comments plan for, with which its notebook is made; None where they name none.

    >>> kaggle_target(shipped()["m36"].path), kaggle_target(shipped()["quickstart"].path)
    ('kaggle-t4x2', None)
    """
    match = _KAGGLE_TARGET.search(spec.read_text(encoding="utf-8"))
    return match[1] if match else None


def _read(spec: Path) -> Mapping[str, Any]:
    from ruamel.yaml import YAML

    value: Mapping[str, Any] = YAML(typ="safe").load(spec.read_text(encoding="utf-8"))
    return value


def _named_files(value: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Eval set, dataset and templates: (path in the project, shipped file). Files that are not shipped are left out."""
    dataset = value["dataset"]
    eval_set = value["eval_set"]
    named = [eval_set["path"] if isinstance(eval_set, Mapping) else eval_set]
    if isinstance(dataset, Mapping) and "hub" not in dataset:  # with hub, path is inside the repository
        named.append(dataset["path"])
    named += [f"templates/{file}.j2" for file in value.get("evidence", {}).get("files", ())]
    for path in map(PurePosixPath, named):
        for source in (asset("runspecs", "examples", *path.parts), asset("evalsets", path.name)):
            if source.is_file():
                yield path.as_posix(), source
                break


def _plugin_files(value: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """A plug-in is a package of one module, in a folder with the name of the kind of step that it adds."""
    for kind in dict.fromkeys(str(step["uses"]) for step in value["steps"]):
        for source in sorted(asset("runspecs", "examples", "plugins", kind).glob("*.*")):  # no __pycache__
            yield f"plugins/{kind}/{source.name}", source
