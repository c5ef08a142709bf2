"""The extras of the distribution, and the error for a missing one.

Nothing is imported: importlib finds the package on the path, metadata has its version.

    >>> EXTRAS["train"][0]
    'jax'
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from engine.canonical import JsonMapping
from engine.errors import InputInvalid

# extra -> the modules that it needs to work. pyproject.toml lists what each extra installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("jax", "flax", "optax", "orbax", "transformers", "tokenizers", "safetensors"),
    "sign": ("cryptography", "bcrypt"),
    "kaggle": ("kagglesdk", "requests"),
    "sigstore": ("sigstore",),
    "model-signing": ("model_signing", "OpenSSL"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
# What `plan --exact` compiles with for machines that are not there; without what they depend on (5 GB of CUDA).
COMPILERS = ("libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")
_DISTRIBUTIONS = {"orbax": "orbax-checkpoint", "model_signing": "model-signing", "OpenSSL": "pyopenssl"}


def extras_of(args: JsonMapping, schema: JsonMapping) -> list[str]:
    """The extras that a step's arguments need: ``x-extras: {value: extra}`` of a key in its schema.

    >>> extras_of({"report_to": ["wandb"]}, {"properties": {"report_to": {"x-extras": {"wandb": "wandb"}}}})
    ['wandb']
    """
    needed = []
    for key, entry in schema.get("properties", {}).items():
        if isinstance(entry, Mapping) and "x-extras" in entry:
            value, extras = args.get(key), entry["x-extras"]
            values = value if isinstance(value, list | tuple) else [value]
            needed += [extras[choice] for choice in values if choice in extras]
    return needed


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed; an unknown extra (a plug-in's) misses none."""
    return [name for name in EXTRAS.get(extra, ()) if importlib.util.find_spec(name) is None]


def versions(extra: str) -> dict[str, str | None]:
    """Distribution -> installed version, or None."""
    installed: dict[str, str | None] = {}
    for module in EXTRAS[extra]:
        distribution = _DISTRIBUTIONS.get(module, module)
        try:
            installed[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            installed[distribution] = None
    return installed


def install_command(extra: str) -> str:
    """What to type to install it."""
    return f"pip install 'runspec-engine[{extra}]'"


def compilers_command(root: Path) -> str:
    """What to type in the project ``root`` to get the compilers of TPUs and GPUs into its ``.compilers/``.

    In a checkout of the engine its Makefile does it; elsewhere pip does, with the versions that the installed jax asks for.
    """
    if (root / "Makefile").is_file() and (root / "engine" / "extras.py").is_file():
        return "make compilers"
    versions = {name: _version_for_jax(name) for name in COMPILERS}
    wanted = " ".join(f"'{name}=={version}'" if version else name for name, version in versions.items())
    return f"pip install --no-deps --target .compilers {wanted}"


def _version_for_jax(distribution: str) -> str | None:
    """The version that fits the installed jax: libtpu's is in jax's own requirements, the plug-ins have jax's."""
    try:
        needs, jax = metadata.requires("jax") or [], metadata.version("jax")
    except metadata.PackageNotFoundError:
        return None
    if distribution.startswith("jax-"):
        return jax
    return next((match[1] for need in needs if (match := re.match(rf"{distribution}==([\d.*]+)", need))), None)


def require(extra: str, what: str) -> None:
    """Raises InputInvalid (X101) where the extra is not installed. ``what`` needs it: ``step "train"``."""
    missing = missing_modules(extra)
    if missing:
        raise InputInvalid(
            "X101",
            f'{what} needs the extra "{extra}", which is not installed here (missing: {", ".join(missing)})',
            hint=f"{install_command(extra)}\nvalidate, plan, score and verify work without it",
        )
