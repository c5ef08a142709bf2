"""Text to token ids and back, on the ``tokenizers`` library (transformers alone takes 2.3 s to import).

What goes in: a Hugging Face tokenizer folder, or nothing for the tiny model's characters. What comes
out: :class:`Tokenizer`, which encodes plain text without adding any special token.

    >>> tokenizer = build_chars()
    >>> tokenizer.encode("Hi"), tokenizer.decode(tokenizer.encode("naïve\\n")), tokenizer.vocab_size
    ([76, 109], 'naïve\\n', 260)

**Text is text.** A person's row that contains the literal ``<bos>`` (or ``<eos>``, ``<pad>``, ``<unk>``,
or any other token the vocabulary marks special) is encoded as those characters, never as the control
token: nobody can end a sequence from inside the data. The one exception are the chat turn markers
``<start_of_turn>`` and ``<end_of_turn>``, which the rendering "gemma_chat@v1" writes as text on purpose; where
the vocabulary has them they become their tokens. Callers put BOS and EOS by id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, processors

from engine.canonical import pretty_json, write_atomic
from engine.errors import InputInvalid, Where

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIALS_FILE = "special_tokens_map.json"
# Carried along unread where a folder has them; sentencepiece's file serves other programs.
COMPANION_FILES = ("tokenizer.model", "added_tokens.json", "chat_template.jinja")
TURN_MARKERS = ("<start_of_turn>", "<end_of_turn>")
CONTROL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3, as in Gemma
PRINTABLE = range(0x20, 0x7F)


class Tokenizer:
    """A tokenizer with its folder's files; immutable."""

    def __init__(self, files: Mapping[str, bytes], *, source: str = TOKENIZER_FILE) -> None:
        """``files``: name -> bytes of a Hugging Face tokenizer folder (only tokenizer.json is required)."""
        self._files = dict(files)
        document = _json(self._files[TOKENIZER_FILE], source)
        self._raw = _build(document, source)
        specials = self._special_names(source)
        self.bos_id = self._id_of("bos_token", specials, source)
        self.eos_id = self._id_of("eos_token", specials, source)
        self.pad_id = self._id_of("pad_token", specials, source)
        self.vocab_size: int = self._raw.get_vocab_size(with_added_tokens=True)
        added = document.get("added_tokens") or []
        self._skipped = {row["id"] for row in added if row.get("special")}
        self._skipped |= {self.bos_id, self.eos_id, self.pad_id}
        markers = {self._raw.token_to_id(marker) for marker in TURN_MARKERS}
        self._never = {self.bos_id, self.eos_id, self.pad_id} - markers

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a tokenizer folder. Raises InputInvalid M301 (missing), M302 (broken), M303 (no special id)."""
        folder = Path(folder)
        if not (folder / TOKENIZER_FILE).is_file():
            raise InputInvalid(
                "M301",
                f"the model folder has no {TOKENIZER_FILE}",
                where=Where(file=str(folder)),
                hint="a folder with only tokenizer.model can be converted: load it once with transformers' "
                "AutoTokenizer and save_pretrained it",
            )
        names = (TOKENIZER_FILE, CONFIG_FILE, SPECIALS_FILE, *COMPANION_FILES)
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        return cls(files, source=str(folder / TOKENIZER_FILE))

    def save(self, folder: str | Path) -> None:
        """Write the folder's files, byte for byte as they were read or built."""
        for name, data in self._files.items():
            write_atomic(Path(folder) / name, data)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no BOS, no EOS. Raises InputInvalid M304 if the vocabulary makes one of a text."""
        return self._checked(self._raw.encode(text, add_special_tokens=False).ids, text)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of each text, on all cores."""
        encoded = self._raw.encode_batch(list(texts), add_special_tokens=False)
        return [self._checked(item.ids, text) for item, text in zip(encoded, texts, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out, ids outside the vocabulary too."""
        kept = [int(one) for one in ids if int(one) not in self._skipped]
        text: str = self._raw.decode(kept, skip_special_tokens=False)
        return text

    def _checked(self, ids: list[int], text: str) -> list[int]:
        """A vocabulary can spell a control token from ordinary pieces; then the law of this module is lost."""
        if self._never.isdisjoint(ids):
            return ids
        name = next(self._raw.id_to_token(one) for one in ids if one in self._never)
        raise InputInvalid(
            "M304",
            f"this tokenizer makes the control token {name!r} out of a text: {text[:60]!r}",
            hint=f"take {name!r} out of the text",
        )

    def _special_names(self, source: str) -> dict[str, str]:
        """ "bos_token" -> "<bos>", from tokenizer_config.json, else special_tokens_map.json."""
        found: dict[str, str] = {}
        for name in (SPECIALS_FILE, CONFIG_FILE):
            if name not in self._files:
                continue
            for key, value in _json(self._files[name], source).items():
                text = value.get("content") if isinstance(value, dict) else value
                if key in ("bos_token", "eos_token", "pad_token") and isinstance(text, str):
                    found[key] = text
        return found

    def _id_of(self, role: str, specials: Mapping[str, str], source: str) -> int:
        text = specials.get(role, f"<{role.removesuffix('_token')}>")
        found: int | None = self._raw.token_to_id(text)
        if found is None:
            raise InputInvalid(
                "M303",
                f"the vocabulary has no {role} {text!r}",
                where=Where(file=source),
                hint=f'name it as "{role}" in {CONFIG_FILE}',
            )
        return found


def build_chars() -> Tokenizer:
    """The tiny model's tokenizer: one token a byte, id = byte + 4.

    Printable ASCII and the newline are tokens named by their character; every other byte is Hugging
    Face's byte fallback token (``<0xC3>``). So any Unicode text has ids and comes back as it was, the
    vocabulary is 260, and ids 0 to 3 are pad, eos, bos, unk as in Gemma.
    """
    names = [chr(byte) if byte in PRINTABLE or byte == 0x0A else f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {name: index for index, name in enumerate((*CONTROL_TOKENS, *names))}
    raw = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=False)
    )
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS])
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    raw.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    names_of_roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = names_of_roles | {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return Tokenizer(
        {
            TOKENIZER_FILE: pretty_json(json.loads(raw.to_str())).encode(),
            CONFIG_FILE: pretty_json(config).encode(),
            SPECIALS_FILE: pretty_json(names_of_roles).encode(),
        }
    )


def _json(data: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (UnicodeDecodeError, ValueError) as error:
        raise _broken(source, error) from error
    if not isinstance(document, dict):
        raise _broken(source, ValueError("not a JSON object"))
    return document


def _build(document: Mapping[str, Any], source: str) -> Any:
    """The library's tokenizer, with "text is text" as the module's docstring says."""
    added = [
        row | {"special": False} if row.get("content") in TURN_MARKERS else row
        for row in document.get("added_tokens") or []
    ]
    try:
        raw = tokenizers.Tokenizer.from_str(json.dumps({**document, "added_tokens": added}))
    except Exception as error:  # the library raises bare Exception
        raise _broken(source, error) from error
    raw.no_padding()
    raw.no_truncation()
    raw.encode_special_tokens = True
    return raw


def _broken(source: str, error: Exception) -> InputInvalid:
    return InputInvalid(
        "M302",
        f"the tokenizer file cannot be read: {error}",
        where=Where(file=source),
        hint="fetch or save the folder again",
    )
