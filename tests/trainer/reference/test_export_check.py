"""transformers loads what would be exported and reads in it what we wrote; it is asked beside the compilation, and once."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.model_config import config_from_hf
from engine.model_config.decoder import DecoderConfig
from engine.trainer.reference import asking
from engine.trainer.reference.export_check import ExportCheck
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.weights import save_companions

GEMMA_LIKE = Path(__file__).parents[2] / "fixtures" / "gemma_like"
MAPPING: dict[str, Any] = {
    "model_type": "gemma3_text", "vocab_size": 768, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8,
}  # fmt: skip
Make = Callable[..., ExportCheck]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A check of the fixture's tokenizer beside a small Gemma 3; ``write`` may write something else."""

    def check(
        *, source: dict[str, Any] | None = None, ours: DecoderConfig | None = None, write: Any = None
    ) -> ExportCheck:
        config, tokenizer = config_from_hf(MAPPING), Tokenizer.load(GEMMA_LIKE)
        write = write or partial(save_companions, config=config, tokenizer=tokenizer, dtype="bfloat16")
        return ExportCheck(write, ours or config, tokenizer, source=source, cache=tmp_path / "cache")

    return check


def test_both_agree_and_are_not_asked_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base's foreign keys are read past by the class as well; the answer is kept."""
    with make(source=MAPPING | {"unsloth_fixed": True, "top_k": 50}) as check:
        check.begin()
        (said,) = check.wait()
    assert said.endswith("reads the configuration and the tokenizer of the export")
    monkeypatch.setattr(asking, "CHILD", "there.is.no.such.module")
    with make(source=MAPPING | {"unsloth_fixed": True, "top_k": 50}) as check:
        check.begin()
        assert check.wait() == []


def test_a_damaged_answer_is_none(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept counts by its content; without an answer a run does not begin (M110)."""
    monkeypatch.setattr(asking, "CHILD", "there.is.no.such.module")
    with make() as check:
        kept = check._kept
        kept.parent.mkdir(parents=True)
        kept.write_text("{}")
        check.begin()
        with pytest.raises(InputInvalid, match=r"M110.*there\.is\.no\.such") as caught:
            check.wait()
    assert str(caught.value.diagnostics[0].hint).startswith("pip install")


def test_a_value_that_is_read_otherwise_is_named(make: Make) -> None:
    """M109 with the key and both values, before the first train step."""
    with make(ours=config_from_hf(MAPPING | {"sliding_window": 9})) as check:
        check.begin()
        with pytest.raises(InputInvalid, match=r'M109.*reads "sliding_window" in the config.json of the export as 8, '
                                               r"the engine as 9"):  # fmt: skip
            check.wait()


def test_what_transformers_would_not_load_is_refused(make: Make) -> None:
    """A tokenizer that is none: M311 with its words."""

    def write(folder: Path) -> None:
        save_companions(folder, config_from_hf(MAPPING), Tokenizer.load(GEMMA_LIKE), dtype="float32")
        (folder / "tokenizer.json").write_text("{}")

    with make(write=write) as check:
        check.begin()
        with pytest.raises(InputInvalid, match="M311"):
            check.wait()


def test_a_base_that_its_class_refuses_is_a_note(make: Make) -> None:
    """An integer where the class wants a float: the engine reads it, and exports what the class takes."""
    with make(source=MAPPING | {"rms_norm_eps": 1}, ours=None) as check:
        check.begin()
        said = check.wait()
    assert "would refuse the base's config.json: " in said[0]
    assert len(said) == 2


def test_a_setting_that_a_newer_class_computes_with_is_refused(make: Make) -> None:
    """A key that we read past, of which the installed class has another value by default, is M109."""
    with make(source=MAPPING | {"novel_scale": 2.0}) as check:
        said = {"config": MAPPING, "defaults": {"novel_scale": 1.0}}
        with pytest.raises(InputInvalid, match=r'M109.*computes with "novel_scale".*\(2\.0\), the engine does not'):
            list(check._base_notes(said))
        assert list(check._base_notes({"config": MAPPING, "defaults": {"novel_scale": 2.0}})) == []


def test_nothing_is_left_of_a_check_that_was_not_waited_for(make: Make) -> None:
    """A run that fails before its first train step leaves no process and no folder."""
    with make() as check:
        check.begin()
        started, folder = check._asking, check._folder
        assert started is not None
        assert folder is not None
        assert (
            json.loads((Path(folder.name) / "asked" / "export" / "config.json").read_text())["model_type"]
            == "gemma3_text"
        )
    assert started._process.poll() is not None
    assert not Path(folder.name).exists()
