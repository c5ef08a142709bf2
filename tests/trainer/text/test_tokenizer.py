"""The tokenizer: lossless decoding, special tokens by id only, Hugging Face's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models

from engine.errors import InputInvalid
from engine.trainer.text.tokenizer import Tokenizer, build_chars

TOKENIZER = build_chars()
LITERALS = st.sampled_from(["<bos>", "<eos>", "<pad>", "<unk>", "<0x41>", "<0xFF>", "\r\n", "é", "漢", "😀", "\x00"])
TEXTS = st.text() | st.lists(st.text(max_size=5) | LITERALS).map("".join)


@given(TEXTS)
def test_any_text_comes_back(text: str) -> None:
    """decode(encode(x)) == x for every Unicode text, names of special tokens included."""
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(TEXTS)
def test_ids_are_bytes_plus_four(text: str) -> None:
    """The vocabulary is one token a byte, so no text is unknown and none is a control token."""
    assert TOKENIZER.encode(text) == [byte + 4 for byte in text.encode()]


@given(st.lists(st.integers(0, 300)))
def test_any_ids_decode(ids: list[int]) -> None:
    """Any ids decode to a text, without special and unknown ids."""
    assert isinstance(TOKENIZER.decode(ids), str)
    assert TOKENIZER.decode([1, *ids, 0]) == TOKENIZER.decode([one for one in ids if one > 3 or one == 3])


@given(TEXTS, TEXTS)
def test_encoding_has_no_memory_of_neighbours(first: str, second: str) -> None:
    """Ids of a concatenation are the concatenated ids: no token spans a boundary."""
    assert TOKENIZER.encode(first + second) == TOKENIZER.encode(first) + TOKENIZER.encode(second)


def test_many_equals_one_by_one() -> None:
    """Encoding in bulk equals encoding one by one."""
    texts = ["Hi", "", "naïve <bos>", "\n"]
    assert TOKENIZER.encode_many(texts) == [TOKENIZER.encode(text) for text in texts]


def test_control_ids_are_gemmas() -> None:
    """pad 0, eos 1, bos 2, 260 tokens."""
    assert (TOKENIZER.pad_id, TOKENIZER.eos_id, TOKENIZER.bos_id, TOKENIZER.vocab_size) == (0, 1, 2, 260)


def test_specials_are_left_out_of_decoded_text() -> None:
    """BOS, EOS and padding around an answer are not decoded."""
    assert TOKENIZER.decode([2, *TOKENIZER.encode("42"), 1, 0, 0]) == "42"


def test_folder_round_trip_is_byte_equal(tmp_path: Path) -> None:
    """save, load, save writes the same bytes, and two builds are equal."""
    TOKENIZER.save(tmp_path / "a")
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    build_chars().save(tmp_path / "c")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert set(files) == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    for other in "bc":
        assert {path.name: path.read_bytes() for path in (tmp_path / other).iterdir()} == files


@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_the_folder(tmp_path: Path) -> None:
    """AutoTokenizer gives the same ids after one leading BOS, the same decoded text, the same special ids."""
    from transformers import AutoTokenizer

    TOKENIZER.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "Question: 2 + 2?\nReasoning:\tnaïve 漢"
    ids = theirs(text)["input_ids"]
    assert ids == [TOKENIZER.bos_id, *TOKENIZER.encode(text)]
    assert theirs.decode(ids, skip_special_tokens=True) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (2, 1, 0)


def chat_folder(folder: Path, *, special: bool) -> Path:
    """A word-level tokenizer with turn markers, as Gemma's has them."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "hello"]
    raw = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.add_special_tokens(words[:4])
    raw.add_tokens([tokenizers.AddedToken(word, special=special, normalized=False) for word in words[4:6]])
    if special:
        raw.add_special_tokens([tokenizers.AddedToken(word, special=True, normalized=False) for word in words[4:6]])
    folder.mkdir(exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("special", [False, True])
def test_turn_markers_become_their_tokens(tmp_path: Path, special: bool) -> None:
    """<start_of_turn> and <end_of_turn> are tokens, whether or not the vocabulary marks them special."""
    tokenizer = Tokenizer.load(chat_folder(tmp_path / "t", special=special))
    assert tokenizer.encode("<start_of_turn>hello<end_of_turn>") == [4, 6, 5]


def test_a_control_token_spelled_by_a_text_is_refused(tmp_path: Path) -> None:
    """Where the vocabulary itself makes <bos> of the letters, encoding is an error, never a silent control token."""
    tokenizer = Tokenizer.load(chat_folder(tmp_path / "t", special=True))
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_many(["hello", text])):
        with pytest.raises(InputInvalid, match=r"M304.*<bos>"):
            encode("<bos>")


def test_special_names_come_from_the_folder(tmp_path: Path) -> None:
    """An end token in tokenizer_config.json is used, in both of its notations."""
    folder = chat_folder(tmp_path / "t", special=True)
    for value in ("<end_of_turn>", {"content": "<end_of_turn>", "special": True}):
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": value}))
        assert Tokenizer.load(folder).eos_id == 5


def test_missing_tokenizer_is_named(tmp_path: Path) -> None:
    """A folder without tokenizer.json is M301."""
    with pytest.raises(InputInvalid, match="M301"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"model": "BPE"}'])
def test_broken_tokenizer_is_named(tmp_path: Path, content: bytes) -> None:
    """Any error inside tokenizer.json is M302 and names the file."""
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputInvalid, match=r"M302.*[\s\S]*tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_of_a_newer_library_is_not_to_be_fetched_again(tmp_path: Path) -> None:
    """Sound JSON with a part that the installed library does not know is M310: newer releases, not a damaged file."""
    folder = chat_folder(tmp_path / "t", special=True)
    document = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(document | {"normalizer": {"type": "OfNextYear"}}))
    with pytest.raises(InputInvalid) as caught:
        Tokenizer.load(folder)
    (found,) = caught.value.diagnostics
    assert found.code == "M310"
    assert found.message.startswith(f"tokenizers {tokenizers.__version__} does not understand this tokenizer: ")
    assert str(found.hint).startswith("it was probably saved by a newer release: pip install --upgrade tokenizers")


def test_a_special_token_outside_the_vocabulary_is_named(tmp_path: Path) -> None:
    """An end token that the vocabulary lacks is M303."""
    folder = chat_folder(tmp_path / "t", special=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(InputInvalid, match=r"M303[\s\S]*</s>"):
        Tokenizer.load(folder)


def test_companion_files_travel(tmp_path: Path) -> None:
    """Files for other programs are copied from folder to folder."""
    folder: Any = chat_folder(tmp_path / "t", special=True)
    (folder / "tokenizer.model").write_bytes(b"sentencepiece")
    Tokenizer.load(folder).save(tmp_path / "u")
    assert (tmp_path / "u" / "tokenizer.model").read_bytes() == b"sentencepiece"
