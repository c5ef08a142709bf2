"""What the engine needs of other packages in a session, in which versions, and what the image has of it.

In: the constraints that travel with the engine, the Python, the kind of device. Out: :class:`Package` rows. Nothing is imported: an
interpreter is asked for the versions that it would import (importlib.metadata), before JAX is.

    >>> pins("jax==0.10.2 ; python_full_version < '3.12'\\njax==0.12.0.1 ; python_full_version >= '3.12'", (3, 12, 3))
    {'jax': '0.12.0.1'}
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# As pyproject.toml has them (a test compares the two).
CORE = ("jinja2", "jsonschema", "rich", "ruamel-yaml", "structlog")
TRAIN = ("flax", "huggingface-hub", "jax", "msgpack", "numpy", "optax", "orbax-checkpoint", "safetensors", "sentencepiece",
         "tokenizers", "transformers")  # fmt: skip
# kind of device -> what jax needs for it: the name to install, and the packages that must be the pair of that jax
DEVICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cpu": ("jax", ("jaxlib",)),
    "gpu": ("jax[cuda12]", ("jaxlib", "jax-cuda12-plugin", "jax-cuda12-pjrt")),
    "tpu": ("jax[tpu]", ("jaxlib", "libtpu")),
}
ASK_SECONDS = 60
_LINE = re.compile(r"([a-z0-9-]+)==(\S+)(?: ; (.*))?")
_FOR_PYTHON = re.compile(r"python_full_version (<|>=) '([\d.]+)'")
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Package:
    """``pinned``: the version that the engine was tested with; ``found``: what is there, None for nothing."""

    name: str
    pinned: str
    found: str | None

    @property
    def fits(self) -> bool:
        """Whether the version that is there is the pinned one."""
        return self.found == self.pinned

    def __str__(self) -> str:
        return f"{self.name} {self.pinned}" + (f" (here: {self.found})" if self.found else "")


def names_for(device: str) -> tuple[str, ...]:
    """The packages that must have their pinned versions."""
    return (*CORE, *TRAIN, *DEVICES[device][1])


def to_install(device: str) -> tuple[str, ...]:
    """The names that pip is given; their own needs come with them."""
    return (*CORE, *(DEVICES[device][0] if name == "jax" else name for name in TRAIN))


def pins(constraints: str, version: Sequence[int]) -> dict[str, str]:
    """Name -> version for a Python; conditions other than on Python hold on the machines that are meant, which run Linux."""
    found = {}
    for line in constraints.splitlines():
        match = _LINE.fullmatch(line)
        if match and _holds(match[3] or "", version):
            found[match[1]] = match[2]
    return found


def _holds(condition: str, version: Sequence[int]) -> bool:
    for sign, text in _FOR_PYTHON.findall(condition):
        bound = [int(part) for part in text.split(".")]
        if (list(version[: len(bound)]) < bound) != (sign == "<"):
            return False
    return True


def packages(python: Path, pinned: Mapping[str, str], names: Iterable[str]) -> list[Package]:
    """What this interpreter would import. Raises OSError, SubprocessError or ValueError where it does not answer."""
    names = list(names)
    done = subprocess.run(
        [str(python), "-c", _ASK, *names], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=ASK_SECONDS, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return [Package(name, pinned[name], found[name]) for name in names]
