"""Begin a project: a preset, the eval set it names, the schema for the editor, a marker, a .gitignore.

In: the name of a shipped preset and a folder. Out: files that ``runspec validate`` and
``runspec plan`` take as they are. No existing file is overwritten without ``force``; each file is written atomically.

    presets()["quickstart"]             # the first comment line of runspecs/quickstart.yaml
    init("quickstart", Path("."), kinds=handlers())
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.assets import asset
from engine.canonical import JsonMapping, pretty_json, write_atomic
from engine.errors import Diagnostic, InputInvalid, RunFailed

MARKER = ".runspec"
SCHEMA_PATH = "schemas/runspec.schema.json"  # where the modeline of every preset looks for it
GITIGNORE = (
    "# heavy artifacts, caches and journals of runspec; evidence is meant to be committed\n/.runspec/\n/submission/\n"
)


@dataclass(frozen=True, slots=True)
class Project:
    """What ``init`` made. ``written`` and ``kept`` (equal already) are paths relative to ``root``."""

    root: Path
    spec: str
    written: tuple[str, ...]
    kept: tuple[str, ...]


def preset_paths() -> dict[str, Path]:
    """Preset -> its file."""
    return {path.stem: path for path in sorted(asset("runspecs").glob("*.yaml"))}


def presets() -> dict[str, str]:
    """Preset -> its first comment line (the editor's modeline does not count)."""
    return {name: _first_comment(path.read_text(encoding="utf-8")) for name, path in preset_paths().items()}


def _first_comment(text: str) -> str:
    for line in text.splitlines():
        words = line.lstrip("#").strip()
        if line.startswith("#") and words and not words.startswith("yaml-language-server"):
            return words
    return ""


def _named_files(preset: Path) -> dict[str, str]:
    """Shipped files that the preset refers to by path: project path -> content."""
    from ruamel.yaml import YAML

    value: JsonMapping = YAML(typ="safe").load(preset.read_text(encoding="utf-8"))
    named = Path(str(value["eval_set"]))
    return {named.as_posix(): asset("evalsets", named.name).read_text(encoding="utf-8")}


def project_files(preset: Path, kinds: JsonMapping) -> dict[str, str]:
    """Everything ``init`` writes, by path relative to the project."""
    from engine.runspec import schema_document

    return {
        f"runspecs/{preset.name}": preset.read_text(encoding="utf-8"),
        **_named_files(preset),
        SCHEMA_PATH: pretty_json(schema_document(kinds)),
    }


def init(preset: Path, root: Path, *, kinds: JsonMapping, force: bool = False) -> Project:
    """Write the project. Raises InputInvalid (U111) listing every file that is there and differs."""
    files = project_files(preset, kinds)
    if root.exists() and not root.is_dir():
        raise InputInvalid("U111", f"{root} is a file, not a folder")
    kept = tuple(name for name, text in files.items() if _holds(root / name, text))
    different = [name for name in files if name not in kept and (root / name).exists()]
    if different and not force:
        raise InputInvalid.of(
            [Diagnostic("U111", f"{root / name} is there already and differs", hint="--force overwrites it, "
                        "--dir writes elsewhere") for name in different]
        )  # fmt: skip
    written = tuple(name for name in files if name not in kept)
    try:
        (root / MARKER).mkdir(parents=True, exist_ok=True)
        for name in written:
            write_atomic(root / name, files[name])
        ignores = _extend_gitignore(root / ".gitignore")
    except OSError as error:
        raise RunFailed("U115", f"cannot write {error.filename or root}: {error.strerror or error}",
                        hint="choose a folder where this user may write: --dir DIR") from error  # fmt: skip
    return Project(root, f"runspecs/{preset.name}", written + ((".gitignore",) * ignores), kept)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _extend_gitignore(path: Path) -> bool:
    """Add our line to the project's .gitignore, leaving the person's own lines; False where it is there."""
    before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    if any(line.strip().strip("/") == MARKER for line in before.splitlines()):
        return False
    joint = "" if not before or before.endswith("\n") else "\n"
    write_atomic(path, (before + joint + GITIGNORE).encode(errors="surrogateescape"))
    return True
