"""Projects made by ``runspec init``, with what nobody can ship: a model folder, and the plug-in installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.assets import asset
from engine.cli import main
from engine.steps import registry
from engine.trainer.models import config_from_hf, create
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import save_folder

REPOSITORY = Path(__file__).parents[2]
MICRO = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


Runspec = Callable[..., Done]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma of six thousand weights as the engine itself exports one."""
    folder = tmp_path_factory.mktemp("models") / "micro"
    config = config_from_hf(MICRO)
    save_folder(folder, create(config, seed=1, param_dtype="float32"), config, build_chars(), dtype="float32")
    return folder


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the plug-in of the example ``own-step``."""
    folder = tmp_path_factory.mktemp("plugins")
    source = folder / "source"  # a copy: building leaves nothing in the checkout
    source.mkdir()
    for file in asset("runspecs", "examples", "plugins", "wrong_answers").glob("*.*"):
        (source / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(folder / "site"), str(source)],
        check=True,
    )  # fmt: skip
    return folder / "site"


@pytest.fixture
def runspec(
    tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Runspec]:
    """The command in this process, in an empty folder, with the plug-in installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(plugins))
    registry._discover.cache_clear()  # kinds are looked up once in a process

    def call(*words: str) -> Done:
        capsys.readouterr()
        code = main(list(words))
        return Done(code, *capsys.readouterr())

    yield call
    registry._discover.cache_clear()
    sys.modules.pop("wrong_answers", None)


@pytest.fixture
def runspec_process(tmp_path: Path, plugins: Path) -> Runspec:
    """The command in a process of its own, in the same folder: for runs."""

    def call(*words: str) -> Done:
        path = os.pathsep.join(map(str, (plugins, REPOSITORY)))
        done = subprocess.run(
            [sys.executable, "-m", "engine", *words], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path}, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def begin(runspec: Runspec, tmp_path: Path, model_folder: Path) -> Callable[[str], str]:
    """``begin("chat")`` writes the example as a person would, does what it asks for first, and gives the spec's path."""

    def make(name: str) -> str:
        done = runspec("init", name, "--json")
        assert done.code == 0, done.out
        if any("ln -s" in command for command in done.document["next"]):
            (tmp_path / "models").mkdir()
            (tmp_path / "models" / "mine").symlink_to(model_folder)
        spec: str = done.document["spec"]
        return spec

    return make
