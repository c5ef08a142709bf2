"""Models on Kaggle: their names, and the folders in which one of them lies on this machine without being fetched.

In: ``google/gemma/transformers/2b/3`` as a person writes it, the environment. Out: a :class:`KaggleModel`, and the folder of its mount or of
kagglehub's cache where it is there. Standard library only: validation, plan and trainer ask here, and all find the same folder.

    >>> model = parse_kaggle_model("google/gemma/Transformers/2b/3")
    >>> str(model), model.page
    ('google/gemma/transformers/2b/3', 'https://www.kaggle.com/models/google/gemma')
    >>> parse_kaggle_model("google/gemma/flax/2b")
    Traceback (most recent call last):
        ...
    ValueError: it names no version, and the newest one changes

A session of Kaggle mounts its models below ``input``, today by their full names and before by those after the owner's:
``models/google/gemma/transformers/2b/3`` or ``gemma/Transformers/2b/3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

ROOT_VARIABLE = "RUNSPEC_KAGGLE_ROOT"  # where "/kaggle" is, in tests and stand-ins
CACHE_VARIABLE = "KAGGLEHUB_CACHE"
SESSION_VARIABLE = "KAGGLE_KERNEL_RUN_TYPE"
PARTS = ("owner", "model", "framework", "variation", "version")
EXAMPLE = "google/gemma/transformers/2b/3"
FORM = f"the five parts are owner/model/framework/variation/version, as in {EXAMPLE}"
MARKER_FOLDER = ".complete"  # kagglehub's: a file in it says that one file is complete
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Place = Literal["mount", "cache"]


@dataclass(frozen=True, slots=True)
class KaggleModel:
    """One version of one variation; ``framework`` in lower case."""

    owner: str
    model: str
    framework: str
    variation: str
    version: int

    def __str__(self) -> str:
        return "/".join(map(str, (self.owner, self.model, self.framework, self.variation, self.version)))

    @property
    def page(self) -> str:
        """Where its licence is shown and accepted."""
        return f"https://www.kaggle.com/models/{self.owner}/{self.model}"

    def parts(self) -> dict[str, str | int]:
        """The five by name."""
        return {name: getattr(self, name) for name in PARTS}


class FoundModel(NamedTuple):
    """A folder with the model's files, and whose it is."""

    folder: Path
    place: Place


def parse_kaggle_model(text: str) -> KaggleModel:
    """The name as a value. Raises ValueError that says what is wrong with it; :data:`FORM` says what it should be."""
    parts = text.split("/")
    if len(parts) == len(PARTS) - 1 and all(map(_PART.fullmatch, parts)):
        raise ValueError("it names no version, and the newest one changes")
    if len(parts) != len(PARTS):
        raise ValueError(f"it has {len(parts)} part{'s' * (len(parts) != 1)} instead of {len(PARTS)}")
    for name, part in zip(PARTS[:-1], parts[:-1], strict=True):
        if not _PART.fullmatch(part):
            raise ValueError(f"its {name} is {part!r}, and has letters, digits, '.', '_' and '-' only")
    if not _VERSION.fullmatch(parts[-1]):
        raise ValueError(f"its version is {parts[-1]!r}, and versions are numbers from 1")
    return KaggleModel(parts[0], parts[1], parts[2].lower(), parts[3], int(parts[4]))


def kaggle_root(environ: Mapping[str, str]) -> Path:
    """The folder that a session has its ``input`` and ``working`` in."""
    return Path(environ.get(ROOT_VARIABLE) or "/kaggle")


def in_session(environ: Mapping[str, str]) -> bool:
    """Whether this is a session of Kaggle, or stands for one."""
    return bool(environ.get(SESSION_VARIABLE) or environ.get(ROOT_VARIABLE))


def kagglehub_cache(environ: Mapping[str, str]) -> Path:
    """The cache of kagglehub, as it finds it.

    >>> str(kagglehub_cache({"KAGGLEHUB_CACHE": "/data/kagglehub"}))
    '/data/kagglehub'
    """
    return Path(environ.get(CACHE_VARIABLE) or "~/.cache/kagglehub").expanduser()


def cached_folder(model: KaggleModel, environ: Mapping[str, str]) -> Path:
    """The model's folder in kagglehub's cache, whether it is there or not; another spelling of the framework is the same one."""
    above = kagglehub_cache(environ) / "models" / model.owner / model.model
    spelt = next((path.name for path in _folders(above) if path.name.lower() == model.framework), model.framework)
    return above / spelt / model.variation / str(model.version)


def complete_marker(folder: Path) -> Path:
    """What kagglehub leaves beside a folder of its cache in which every file has arrived."""
    return folder.with_name(f"{folder.name}.complete")


def digests_file(folder: Path) -> Path:
    """What the engine leaves beside a folder of the cache that it has filled: name -> size and SHA-256."""
    return folder.with_name(f"{folder.name}.runspec.json")


def found_model(model: KaggleModel, environ: Mapping[str, str]) -> FoundModel | None:
    """The mount of this session, else a complete folder of the cache; None where there is neither."""
    for folder in _mounts(model, kaggle_root(environ) / "input"):
        if any(folder.iterdir()):
            return FoundModel(folder, "mount")
    folder = cached_folder(model, environ)
    if folder.is_dir() and (complete_marker(folder).exists() or digests_file(folder).exists()):
        return FoundModel(folder, "cache")
    return None


def _mounts(model: KaggleModel, root: Path) -> Iterator[Path]:
    """The folders that may be the mount, today's layout first."""
    for above in (root / "models" / model.owner / model.model, root / model.model):
        for framework in _folders(above):
            folder = framework / model.variation / str(model.version)
            if framework.name.lower() == model.framework and folder.is_dir():
                yield folder


def _folders(above: Path) -> list[Path]:
    """The folders in a folder; none where it is not there or cannot be read."""
    try:
        return sorted(path for path in above.iterdir() if path.is_dir())
    except OSError:
        return []
