"""The Python of a session: the image's own where it fits, else an environment beside it that leaves the image's packages alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import RunFailed
from engine.kaggle.session import python as session
from engine.kaggle.session.python import check_version, session_python
from engine.kaggle.session.requirements import Package

NAME = "runspec-session-probe"  # a package that nobody has


def _wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with a module that knows its version."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``needs(name, …)``: what the engine needs in a session."""

    def set_names(*names: str) -> None:
        monkeypatch.setattr(session, "names_for", lambda device: names)
        monkeypatch.setattr(session, "to_install", lambda device: names)

    return set_names


def _constraints(folder: Path, *lines: str) -> Path:
    path = folder / "constraints.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_an_image_that_fits_is_used_as_it_is(needs: Callable[..., None], tmp_path: Path) -> None:
    """Nothing is installed, nothing is made."""
    needs("pytest")
    python, lines = session_python(
        "cpu", _constraints(tmp_path, f"pytest=={pytest.__version__}"), tmp_path, wheelhouse=None
    )
    assert (str(python), lines) == (sys.executable, ["packages  1 of 1 are in the image as pinned"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["constraints.txt"]


def test_what_differs_is_installed_beside_the_images_packages(needs: Callable[..., None], tmp_path: Path) -> None:
    """Law: by the image's pip from a wheelhouse, without the network; the image's own packages are seen and left alone. Once."""
    needs("pytest", NAME)
    _wheel(tmp_path / "wheels", NAME, "2.0")
    constraints = _constraints(tmp_path, f"pytest=={pytest.__version__}", f"{NAME}==2.0")
    python, lines = session_python("cpu", constraints, tmp_path, wheelhouse=tmp_path / "wheels")
    assert lines == [
        "packages  1 of 2 are in the image as pinned", f"packages  installing 1 beside the image's: {NAME} 2.0",
    ]  # fmt: skip
    asked = subprocess.run(
        [str(python), "-c", "import pytest, runspec_session_probe as probe; print(pytest.__file__); print(probe.version, probe.__file__)"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert asked[0] == pytest.__file__
    assert (
        asked[1]
        == f"2.0 {python.parents[1] / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}' / 'site-packages' / 'runspec_session_probe.py'}"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", "import runspec_session_probe"], capture_output=True, check=False
        ).returncode
        != 0
    )
    again = session_python("cpu", constraints, tmp_path, wheelhouse=tmp_path / "nothing there")
    assert again == (python, lines[:1])


def test_an_installation_that_fails_says_what_to_do_and_what_pip_said(
    needs: Callable[..., None], tmp_path: Path
) -> None:
    """G152: internet, or a notebook made with --offline; the end of pip's own words."""
    needs(NAME)
    (tmp_path / "wheels").mkdir()
    with pytest.raises(RunFailed, match="installing the packages failed") as caught:
        session_python("cpu", _constraints(tmp_path, f"{NAME}==2.0"), tmp_path, wheelhouse=tmp_path / "wheels")
    assert caught.value.code == "G152"
    assert "Settings > Internet" in caught.value.hint
    assert NAME in caught.value.hint.split("cell again")[1]


def test_what_is_installed_must_be_what_was_asked_for() -> None:
    """G153: a package of the image that still comes first."""
    with pytest.raises(RunFailed, match=r"have other versions than pinned: jax 2\.0 \(here: 3\.0\)") as caught:
        session._check([Package("numpy", "1.0", "1.0"), Package("jax", "2.0", "3.0")])
    assert caught.value.code == "G153"
    session._check([Package("numpy", "1.0", "1.0")])


PIPS = {
    "none": ("import sys; sys.exit('No module named pip')", "does not start: No module named pip"),
    "old": ("print('pip 21.0.1 from /x (python 3.12)')", "pip 21.0 is too old; 22.3 or later is needed"),
}


@pytest.mark.parametrize("case", PIPS)
def test_pip_itself_is_looked_at_first(case: str, tmp_path: Path) -> None:
    """G151: a pip that is not there, or that cannot install into another environment."""
    code, says = PIPS[case]
    (tmp_path / "image").write_text(f"#!{sys.executable}\n{code}\n")
    (tmp_path / "image").chmod(0o755)
    with pytest.raises(RunFailed, match=says) as caught:
        session._check_pip(tmp_path / "image")
    assert caught.value.code == "G151"


def test_a_python_that_is_too_old_is_refused() -> None:
    """G150 by its version; 3.11 and later pass."""
    with pytest.raises(RunFailed, match=r"this image has Python 3\.10") as caught:
        check_version((3, 10, 12))
    assert caught.value.code == "G150"
    check_version((3, 11, 0))
    check_version((3, 13, 1))
