"""YAML text -> :class:`Spec`: the public functions.

    spec = load_spec(Path("runspecs/quickstart.yaml"), ["train.num_train_steps=50"], kinds=handlers())

In: a run-spec's path, overrides from the command line, and the kinds of steps there are. Out:
one immutable value with every default filled in; or all errors at once, each with its position, the person's own line,
a stable code and a fix. No framework is imported, and jsonschema only for plug-ins whose schema needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import JsonObject
from engine.errors import Diagnostic, InputInvalid
from engine.runspec.build import make_spec
from engine.runspec.document import parse_mapping
from engine.runspec.findings import Case, SpecFindings
from engine.runspec.former_names import FORMER_NAME, warn_of_former_names, with_present_names
from engine.runspec.kinds import Kinds, StepKind, schema_document
from engine.runspec.model import Override, Spec
from engine.runspec.nodes import Mapping, plain
from engine.runspec.overrides import apply_overrides
from engine.runspec.rules import check_rules
from engine.runspec.schema import check_tree
from engine.runspec.sections import check_dataset, check_model, check_modeline, check_paths
from engine.runspec.source import read_source, source_of
from engine.runspec.spelling.file_names import check_file_names
from engine.runspec.spelling.look_alikes import at_the_character
from engine.runspec.wiring import check_steps

__all__ = [
    "Kinds",
    "Spec",
    "StepKind",
    "check_spec",
    "find_root",
    "load_recorded",
    "load_spec",
    "marked_root",
    "schema_document",
    "written_document",
]

MARKERS = (".runspec", ".git", "pyproject.toml")


def load_spec(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    kinds: Kinds,
    builders: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
    on_former_name: Callable[[Diagnostic], None] = lambda _: None,
) -> Spec:
    """Read, check and complete a run-spec. Raises InputInvalid with every error in it.

    ``builders`` and ``metrics`` are the names that exist; None lets any name pass. ``on_former_name`` hears of each key
    that is read although it has another name now.
    """
    read = _examine(path, overrides, kinds, builders, metrics)
    errors = [finding for finding in read.findings if finding.severity == "error"]
    if errors or read.case is None or read.written is None:
        raise InputInvalid.of(errors)
    for finding in read.findings:
        if finding.code == FORMER_NAME:
            on_former_name(finding)
    return make_spec(
        path=read.case.spec_path, root=read.case.root, data=read.data, written=read.written, tree=read.case.tree,
        overrides=read.overrides, kinds=kinds,
    )  # fmt: skip


def load_recorded(data: bytes, name: str, overrides: Sequence[str], *, kinds: Kinds) -> Spec:
    """The spec of a run of somebody else, from its bytes: no path in it is looked for on this machine.

    Raises InputInvalid with every error in it. Names of builders and metrics are not checked.
    """
    data, text, source = source_of(data, name)
    written, _ = with_present_names(parse_mapping(text, source), kinds)
    tree, applied, refused = apply_overrides(written, overrides, kinds)
    tree, _ = with_present_names(tree, kinds)
    case = Case(tree, kinds, Path(), Path(name), SpecFindings(tree), None, None)
    check_tree(case)
    check_steps(case)
    check_model(case)
    check_dataset(case)
    check_rules(case)
    errors = [finding for finding in (*case.findings.sorted(), *refused) if finding.severity == "error"]
    if errors:
        raise InputInvalid.of(errors)
    return make_spec(
        path=Path(name), root=Path(), data=data, written=written, tree=tree, overrides=applied, kinds=kinds
    )


def written_document(data: bytes, name: str) -> JsonObject:
    """The run-spec as the person wrote it, without defaults and overrides. Raises InputInvalid where it is no YAML mapping."""
    _, text, source = source_of(data, name)
    document: JsonObject = plain(parse_mapping(text, source))
    return document


def check_spec(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    kinds: Kinds,
    builders: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
) -> list[Diagnostic]:
    """Every finding in the order of the file, warnings included; [] for a good spec. Never raises for bad input."""
    return _examine(path, overrides, kinds, builders, metrics).findings


def find_root(spec_path: Path) -> Path:
    """The project that a spec (or a folder) belongs to: the nearest folder with .runspec, .git or pyproject.toml.

    Where there is none: the spec's own folder, or the one above a folder called ``runspecs``.
    """
    start = _absolute(spec_path)
    folder = start if start.is_dir() else start.parent
    return marked_root(folder) or (folder.parent if folder.name == "runspecs" else folder)


def marked_root(path: Path) -> Path | None:
    """The nearest folder, from this path up, that a marker makes a project; None where there is none."""
    start = _absolute(path)
    marked = (folder for folder in (start, *start.parents) if any((folder / marker).exists() for marker in MARKERS))
    return next(marked, None)


def _absolute(path: Path) -> Path:
    """Absolute, ``..`` taken out, links left as they are: a linked spec belongs where it is linked."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps "..", Path.resolve() follows links


@dataclass
class _Read:
    """One spec as far as it could be read."""

    data: bytes
    text: str
    written: Mapping | None
    case: Case | None
    overrides: list[Override]
    findings: list[Diagnostic]


def _examine(
    path: Path,
    overrides: Sequence[str],
    kinds: Kinds,
    builders: Collection[str] | None,
    metrics: Collection[str] | None,
) -> _Read:
    data, text, source, written = b"", "", None, None
    try:
        data, text, source = read_source(path)
        written = parse_mapping(text, source)
    except InputInvalid as error:
        return _Read(data, text, None, None, [], list(error.diagnostics))
    written, renamed = with_present_names(written, kinds)
    tree, applied, refused = apply_overrides(written, overrides, kinds)
    tree, renamed_overrides = with_present_names(tree, kinds)
    case = Case(tree, kinds, find_root(path), _absolute(path), SpecFindings(tree), builders, metrics)
    warn_of_former_names(renamed + renamed_overrides, case)
    check_tree(case)
    check_steps(case)
    check_model(case)
    check_dataset(case)
    check_rules(case)
    check_paths(case)
    check_file_names(case)
    check_modeline(case, text)
    return _Read(data, text, written, case, applied, [*map(at_the_character, [*case.findings.sorted(), *refused])])
