"""The Python of a session: the image's own where its packages have the pinned versions, else an environment beside it.

In: the kind of device, the constraints, a wheelhouse or None. Out: the interpreter that runs the engine. The image's packages are
left as they are: what differs is installed into an environment on scratch, which sees the image's packages after its own.

    python, lines = session_python("tpu", constraints, folder, wheelhouse=None)

Raises RunFailed: G150 (the image's Python), G151 (pip), G152 (the installation), G153 (what was installed is not what was asked for).
"""

from __future__ import annotations

import hashlib
import os
import re
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import RunFailed, listed
from engine.kaggle.session.requirements import Package, names_for, packages, pins, to_install

OLDEST = (3, 11)
OLDEST_PIP = (22, 3)  # the first with --python
INSTALL_SECONDS = 1800
TAIL_LINES = 12
IMAGE_PACKAGES = "image_packages.pth"
# Of the image's variables these would send what is installed elsewhere.
_LEFT_OUT = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT", "PYTHONPATH", "PYTHONHOME")
NEWER = (
    "choose the latest environment in the notebook's settings (on Kaggle: Settings > Environment > Always use latest)"
)


def session_python(device: str, constraints: Path, scratch: Path, *, wheelhouse: Path | None) -> tuple[Path, list[str]]:
    """The interpreter, and what a person reads about it."""
    check_version(sys.version_info[:3])
    image = Path(sys.executable)
    pinned = pins(constraints.read_text(encoding="utf-8"), sys.version_info[:3])
    rows = packages(image, pinned, names_for(device))
    other = [row for row in rows if not row.fits]
    lines = [f"packages  {len(rows) - len(other)} of {len(rows)} are in the image as pinned"]
    if not other:
        return image, lines
    folder = scratch / f"python-{_digest(image, constraints, device)}"
    python = _environment(image, folder)
    if any(not row.fits for row in packages(python, pinned, names_for(device))):
        lines.append(f"packages  installing {len(other)} beside the image's: {listed(map(str, other))}")
        _install(image, python, _arguments(constraints, device, wheelhouse))
    _check(packages(python, pinned, names_for(device)))
    return python, lines


def check_version(version: Sequence[int]) -> None:
    """Raises RunFailed G150 for an image that is too old."""
    if tuple(version[:2]) < OLDEST:
        raise RunFailed("G150", f"this image has Python {version[0]}.{version[1]}; the engine needs {OLDEST[0]}.{OLDEST[1]} or later",
                        hint=NEWER)  # fmt: skip


def _digest(image: Path, constraints: Path, device: str) -> str:
    text = f"{image} {sys.version} {device}".encode() + constraints.read_bytes()
    return hashlib.sha256(text).hexdigest()[:12]


def _environment(image: Path, folder: Path) -> Path:
    """An environment without pip, whose import path ends with the image's packages."""
    python = folder / "bin" / "python"
    if not (folder / "pyvenv.cfg").is_file() or not python.exists():
        _call(
            [str(image), "-m", "venv", "--without-pip", "--clear", str(folder)],
            "making an environment for the packages",
        )
    (packages_folder,) = folder.glob("lib/python*/site-packages")
    found = [entry for entry in (*site.getsitepackages(), site.getusersitepackages()) if Path(entry).is_dir()]
    lines = [f"import site; site.addsitedir({entry!r})\n" for entry in found]
    (packages_folder / IMAGE_PACKAGES).write_text("".join(lines), encoding="utf-8")
    return python


def _arguments(constraints: Path, device: str, wheelhouse: Path | None) -> list[str]:
    source = ["--no-index", "-f", str(wheelhouse)] if wheelhouse is not None else []
    return [*source, "--constraint", str(constraints), *to_install(device)]


def _install(image: Path, python: Path, arguments: Sequence[str]) -> None:
    _check_pip(image)
    pip = [
        str(image),
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    _call([*pip, "--only-binary", ":all:", *arguments], "installing the packages")


def _check_pip(image: Path) -> None:
    """G151: whether the image's pip is there and can install into another environment."""
    done = subprocess.run(
        [str(image), "-m", "pip", "--version"], env=_clean(os.environ), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    match = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    if match is None:
        raise RunFailed("G151", f"the image's pip does not start: {_tail(done.stderr) or 'no output'}", hint=NEWER)
    if (int(match[1]), int(match[2])) < OLDEST_PIP:
        raise RunFailed("G151", f"the image's {match[0]} is too old; {OLDEST_PIP[0]}.{OLDEST_PIP[1]} or later is needed",
                        hint=NEWER)  # fmt: skip


def _call(words: Sequence[str], what: str) -> None:
    """Raises RunFailed G152 with the end of what the program said."""
    try:
        done = subprocess.run(
            words, env=_clean(os.environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
        problem = _tail(done.stdout) if done.returncode else ""
        failed = done.returncode != 0
    except (OSError, subprocess.SubprocessError) as error:
        problem, failed = type(error).__name__, True
    if failed:
        raise RunFailed(
            "G152", f"{what} failed",
            hint="internet must be on (on Kaggle: Settings > Internet, which needs a verified phone), or use a notebook made with\n"
            f"--offline and a dataset of wheels. Then run this cell again\n{problem}",
        )  # fmt: skip


def _check(rows: Sequence[Package]) -> None:
    """G153: a package of the image that comes before ours, say."""
    wrong = [row for row in rows if not row.fits]
    if wrong:
        raise RunFailed("G153", f"after the installation these have other versions than pinned: {listed(map(str, wrong))}",
                        hint="start the session again; if it happens again, choose the latest environment in the settings")  # fmt: skip


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in _LEFT_OUT}


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-TAIL_LINES:])
