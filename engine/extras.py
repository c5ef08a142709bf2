"""What the optional parts of the distribution bring, and the sentence for when one is not there.

Nothing is imported to find out: importlib looks for the package on the path, metadata for its version.

    >>> EXTRAS["train"][0]
    'jax'
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from engine.errors import InputInvalid

# extra -> the modules without which it is of no use. pyproject.toml says what each extra installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("jax", "flax", "optax", "orbax", "transformers", "tokenizers", "safetensors"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
_DISTRIBUTIONS = {"orbax": "orbax-checkpoint"}


def extras_of(args: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What the arguments of a step ask for besides: a schema says ``x-extras: {value: extra}`` of a key.

    >>> extras_of({"report_to": ["wandb"]}, {"properties": {"report_to": {"x-extras": {"wandb": "wandb"}}}})
    ['wandb']
    """
    found = []
    for key, entry in schema.get("properties", {}).items():
        if isinstance(entry, Mapping) and "x-extras" in entry:
            value, extras = args.get(key), entry["x-extras"]
            found += [extras[one] for one in (value if isinstance(value, list | tuple) else [value]) if one in extras]
    return found


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed; one we do not know (a plug-in's) misses nothing."""
    return [name for name in EXTRAS.get(extra, ()) if importlib.util.find_spec(name) is None]


def versions(extra: str) -> dict[str, str | None]:
    """Distribution -> installed version, or None."""
    found: dict[str, str | None] = {}
    for module in EXTRAS[extra]:
        distribution = _DISTRIBUTIONS.get(module, module)
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[distribution] = None
    return found


def install_words(extra: str) -> str:
    """What to type."""
    return f"pip install 'runspec-engine[{extra}]'"


def require(extra: str, what: str) -> None:
    """Raises InputInvalid (X101) where the extra is not installed. ``what`` needs it: ``step "train"``."""
    missing = missing_modules(extra)
    if missing:
        raise InputInvalid(
            "X101",
            f'{what} needs the extra "{extra}", which is not installed here (missing: {", ".join(missing)})',
            hint=f"{install_words(extra)}\nvalidate, plan, score and verify work without it",
        )
