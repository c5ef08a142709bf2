"""Folders whose tokenizer our reader would have to guess: transformers is asked, and what it makes is read and exported."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from engine.errors import InputInvalid
from engine.model_config.folder_files import NAMES
from engine.trainer.text import stop_tokens, tokenizer_files
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.text.tokenizer_files import added_elsewhere, read_files
from engine.trainer.weights import folder as weights

GEMMA_LIKE = Path(__file__).parents[2] / "fixtures" / "gemma_like"
PLAIN = "A man has 3 boxes.\n\nnaïve 漢字"
THINK = {
    "content": "<think>",
    "lstrip": False,
    "normalized": False,
    "rstrip": False,
    "single_word": False,
    "special": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the fixture that may be changed."""
    return Path(shutil.copytree(GEMMA_LIKE, tmp_path / "m"))


def edit(path: Path, **keys: Any) -> None:
    mapping = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(mapping | keys))


def test_a_folder_that_says_all_in_tokenizer_json_is_read_as_it_is(folder: Path) -> None:
    """Byte for byte: transformers is not asked."""
    assert read_files(folder)["tokenizer.json"] == (GEMMA_LIKE / "tokenizer.json").read_bytes()


def test_a_token_that_only_added_tokens_decoder_has_is_one_token(folder: Path) -> None:
    """`<think>` is the id that the file gives it; other texts keep theirs, and the export has the token itself."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    edit(folder / "tokenizer_config.json", added_tokens_decoder=settings["added_tokens_decoder"] | {"768": THINK})
    plain, ours = Tokenizer.load(GEMMA_LIKE), Tokenizer.load(folder)
    around = [plain.encode("a "), plain.encode(" b")]
    assert ours.encode("a <think> b") == [*around[0], 768, *around[1]]
    assert len(plain.encode("a <think> b")) > len(ours.encode("a <think> b"))
    assert ours.encode(PLAIN) == plain.encode(PLAIN)
    assert ours.vocab_size == plain.vocab_size + 1
    (folder / "again").mkdir()
    ours.save(folder / "again")
    again = Tokenizer.load(folder / "again")
    assert again.encode("a <think> b") == ours.encode("a <think> b")
    assert "<think>" in [
        row["content"] for row in json.loads((folder / "again" / "tokenizer.json").read_text())["added_tokens"]
    ]


def test_a_folder_with_a_sentencepiece_model_only_is_read(tmp_path: Path) -> None:
    """Equal ids to the sentencepiece library's own, and every text back."""
    model = io.BytesIO()
    lines = [
        f"A man has {count} boxes of {count * 7} nails. How many nails? Answer: {count * count * 7}"
        for count in range(60)
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=340, model_type="bpe", byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
        unk_piece="<unk>", user_defined_symbols=["<start_of_turn>", "<end_of_turn>"], add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", split_digits=True, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    edit(tmp_path / "config.json", model_type="gemma")
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="GemmaTokenizer", bos_token="<bos>", eos_token="<eos>",
         pad_token="<pad>", unk_token="<unk>")  # fmt: skip
    ours, theirs = Tokenizer.load(tmp_path), sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert (ours.bos_id, ours.eos_id, ours.pad_id, ours.end_of_turn_id) == (
        2,
        1,
        0,
        theirs.piece_to_id("<end_of_turn>"),
    )
    for text in (PLAIN, "A man has 12 nails?", "  two  spaces ", "\U0001f600\t\n"):
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_what_transformers_cannot_read_either_is_named(tmp_path: Path) -> None:
    """M312 with its words and a way out."""
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="GemmaTokenizer")
    with pytest.raises(InputInvalid, match=r"M312.*transformers cannot read the tokenizer of this folder: ") as caught:
        Tokenizer.load(tmp_path)
    assert str(caught.value.diagnostics[0].hint).startswith("give the folder a tokenizer.json")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "<a>"}}}, ["<a>"]),
        ("tokenizer_config.json", {"additional_special_tokens": ["<a>", {"content": "<b>"}]}, ["<a>", "<b>"]),
        ("tokenizer_config.json", {"extra_special_tokens": {"image_token": "<a>"}}, ["<a>"]),
        ("special_tokens_map.json", {"additional_special_tokens": ["<a>"]}, ["<a>"]),
        ("added_tokens.json", {"<a>": 9, "<b>": 10}, ["<a>", "<b>"]),
        ("tokenizer_config.json", {"added_tokens_decoder": [1], "extra_special_tokens": "<a>"}, []),
        ("added_tokens.json", [1], []),
    ],
)
def test_every_file_that_adds_tokens_is_looked_at(name: str, content: Any, expected: list[str]) -> None:
    """In each of its forms; one of another shape adds none."""
    assert list(added_elsewhere({name: json.dumps(content).encode()})) == expected


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"])
def test_a_dead_link_is_not_an_absent_file(folder: Path, name: str) -> None:
    """With its chat template's file gone, the model would be trained with another template."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../../blobs/4c2a")
    with pytest.raises(InputInvalid, match=rf"M112.*{name} is a link that leads nowhere \(\.\./\.\./blobs/4c2a\)"):
        Tokenizer.load(folder)


def test_every_name_that_is_looked_for_is_known_to_validation() -> None:
    looked_for = {stop_tokens.GENERATION_FILE, *tokenizer_files.COMPANION_FILES, *tokenizer_files.OTHER_TOKENIZERS,
                  tokenizer_files.TOKENIZER_FILE, tokenizer_files.CONFIG_FILE, tokenizer_files.SPECIALS_FILE,
                  weights.SAFETENSORS, weights.MSGPACK, f"{weights.SAFETENSORS}{weights.INDEX}",
                  f"{weights.MSGPACK}{weights.INDEX}", "config.json"}  # fmt: skip
    assert looked_for == set(NAMES)
