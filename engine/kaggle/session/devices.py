"""The devices of a session: looked at before anything is installed, then asked of JAX, and held against what the plan was made for.

In: the :class:`Expected` of the notebook. Out: the kind of device to install for, then JAX's own names; or an error before quota
is spent. A notebook that was pushed for a TPU can run on a CPU image without an error of Kaggle's.

    >>> differs(Expected("kaggle-t4x2", "gpu", "Tesla T4", 2), "gpu", "Tesla T4", 1)
    'the plan is for 2 × Tesla T4 (kaggle-t4x2), and this session has 1 × Tesla T4'
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import RunFailed
from engine.redact import redact

LOOK_SECONDS, PROBE_SECONDS = 30, 300
# A v5e host has /dev/accel0 and on, or its chips behind vfio.
TPU_FILES = ("/dev/accel0", "/dev/vfio/0")
TPU_VARIABLES = ("ISTPUVM", "TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR")
CHOOSE = "on Kaggle: Settings > Accelerator, then start the session again; elsewhere: the runtime's type"
_PROBE = """
import json, sys
import jax
devices = jax.devices()
platform = {"cuda": "gpu", "rocm": "gpu"}.get(devices[0].platform, devices[0].platform)
print(json.dumps({"platform": platform, "kind": devices[0].device_kind, "devices": len(devices), "jax": jax.__version__}))
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """``target`` and ``kind`` (the beginning of JAX's name) are empty where only the platform is known; ``devices`` 0 is any number."""

    target: str
    platform: str
    kind: str = ""
    devices: int = 0

    def __str__(self) -> str:
        count = f"{self.devices} × " if self.devices else ""
        return f"{count}{self.kind or self.platform}" + (f" ({self.target})" if self.target else "")

    def as_json(self) -> dict[str, object]:
        """What the notebook's cell has."""
        return asdict(self)


def look() -> tuple[str, list[str]]:
    """The kind of device by the driver's own tools and files: ``gpu`` with its names, ``tpu`` or ``cpu``. No framework is imported."""
    names = _gpu_names()
    if names:
        return "gpu", names
    if any(Path(file).exists() for file in TPU_FILES) or any(os.environ.get(name) for name in TPU_VARIABLES):
        return "tpu", []
    return "cpu", []


def _gpu_names() -> list[str]:
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOOK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no driver, or one without a device
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def check_look(expected: Expected | None, platform: str, names: list[str]) -> None:
    """Raises RunFailed G155 where the session cannot be the planned one: seconds after it began."""
    if expected is None:
        return
    kind, count = (names[0], len(names)) if names else (expected.kind, expected.devices)
    if said := differs(expected, platform, kind, count):
        raise RunFailed("G155", said, hint=CHOOSE)


def differs(expected: Expected, platform: str, kind: str, count: int) -> str | None:
    """What differs between the plan and the session, as a sentence; None where nothing does."""
    same = platform == expected.platform and kind.startswith(expected.kind) and expected.devices in (0, count)
    here = f"{count} × {kind}" if platform == expected.platform else platform
    return None if same else f"the plan is for {expected}, and this session has {here}"


def probe(python: Path, environ: Mapping[str, str], expected: Expected | None) -> str:
    """Ask JAX in a child. Raises RunFailed G155, or G156 where JAX does not start."""
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE], env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=PROBE_SECONDS, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        raise RunFailed(
            "G156", f"JAX does not find its devices ({type(error).__name__})", hint=f"{CHOOSE}\n{_end(error)}"
        ) from None
    platform, kind, count = str(found["platform"]), str(found["kind"]), int(found["devices"])
    if expected is not None and (said := differs(expected, platform, kind, count)):
        raise RunFailed("G155", said, hint=CHOOSE)
    planned = ", as planned" + (f" ({expected.target})" if expected.target else "") if expected is not None else ""
    return f"devices   {count} × {kind} ({platform}), jax {found['jax']}{planned}"


def _end(error: Exception) -> str:
    text = getattr(error, "stderr", None) or ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return redact("\n".join(text.strip().splitlines()[-6:]))
