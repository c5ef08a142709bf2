"""Text to token ids and back, on the ``tokenizers`` library.

In: a Hugging Face tokenizer folder, or nothing for the tiny model's characters. Out:
:class:`Tokenizer`, which encodes plain text without adding any special token.

    >>> tokenizer = build_chars()
    >>> tokenizer.encode("Hi"), tokenizer.decode(tokenizer.encode("naïve\\n")), tokenizer.vocab_size
    ([76, 109], 'naïve\\n', 260)

**Text is text.** A row that contains the literal ``<bos>`` (or ``<eos>``, ``<pad>``, ``<unk>``, or any other token the
vocabulary marks special) is encoded as those characters, never as the control token: data cannot end a sequence. The
only exceptions are the chat turn markers ``<start_of_turn>`` and ``<end_of_turn>``, which the rendering "gemma_chat@v1"
writes as text on purpose; where the vocabulary has them they become their tokens. Callers add BOS and EOS by id.

Why not ``AutoTokenizer``, which is the reference: it takes a second and a half to import, makes control tokens of letters
in a text, and knows no segments. It is asked where we would have to guess (:mod:`engine.trainer.text.tokenizer_files`),
and whether it reads what is exported (:mod:`engine.trainer.reference`).

A folder's chat template is :attr:`Tokenizer.chat`; its output is encoded by other rules (``kind``, see
:mod:`engine.trainer.text.segment`): the control tokens it names are those tokens, names inside a message stay letters.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, processors

from engine.canonical import digest_bytes, digest_json, digest_text, pretty_json, write_atomic
from engine.errors import InputInvalid, Where
from engine.trainer.text.chat_template import ChatTemplate
from engine.trainer.text.segment import SegmentKind
from engine.trainer.text.tokenizer_files import CONFIG_FILE, SPECIALS_FILE, TEMPLATE_FILE, TOKENIZER_FILE, read_files

END_OF_TURN = "<end_of_turn>"
TURN_MARKERS = ("<start_of_turn>", END_OF_TURN)
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
CONTROL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3, as in Gemma
PRINTABLE = range(0x20, 0x7F)
LONGEST_CHARACTER = 4  # bytes of UTF-8, and so the most tokens of a character


class Tokenizer:
    """A tokenizer with its folder's files; immutable.

    ``vocab_size``: how many rows an embedding needs, 1 + the highest id that a text or the chat template can produce.
    Gemma 3's ``<image_soft_token>`` is beyond its embedding, and no text produces it.
    """

    def __init__(self, files: Mapping[str, bytes], *, source: str = TOKENIZER_FILE) -> None:
        """``files``: name -> bytes of a Hugging Face tokenizer folder (only tokenizer.json is required)."""
        self._files, self._source = dict(files), source
        document = _json(self._files[TOKENIZER_FILE], source)
        self._raw = _build(document, source, text=TURN_MARKERS)
        self._added = document.get("added_tokens") or []
        big = {"vocab": None, "merges": None}  # a quarter of a million names are not held twice
        self._shape = document | {"model": {**document["model"], **big}}
        self._settings = _json(self._files[CONFIG_FILE], source) if CONFIG_FILE in self._files else {}
        self._names = self._special_names()
        self.bos_id, self.eos_id, self.pad_id = (self._id_of(role) for role in ROLES[:3])
        self.end_of_turn_id: int | None = self._raw.token_to_id(END_OF_TURN)
        self._skipped = {row["id"] for row in self._added if row.get("special")}
        self._skipped |= {self.bos_id, self.eos_id, self.pad_id}
        markers = {self._raw.token_to_id(marker) for marker in TURN_MARKERS}
        self._forbidden = {self.bos_id, self.eos_id, self.pad_id} - markers
        self.vocab_size = self._rows_needed(markers)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a tokenizer folder. Raises InputInvalid M301 and M312 (missing), M302 and M310 (broken), M303 (no special id)."""
        folder = Path(folder)
        return cls(read_files(folder), source=str(folder / TOKENIZER_FILE))

    def save(self, folder: str | Path) -> None:
        """Write the folder's files, byte for byte as they were read or built."""
        for name, data in self._files.items():
            write_atomic(Path(folder) / name, data)

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """The folder's chat template; None where it has none. Raises InputInvalid M305 where it is broken."""
        text = self.template_text()
        if text is None:
            return None
        added = {row["content"]: bool(row.get("special")) or row["content"] in TURN_MARKERS for row in self._added}
        return ChatTemplate(text, variables=self._names, added=added, source=self._source)

    @property
    def chat_sha256(self) -> str | None:
        """SHA-256 of the chat template's text; None where there is none."""
        text = self.template_text()
        return None if text is None else digest_text(text)

    @cached_property
    def turn_end_ids(self) -> frozenset[int]:
        """The ids that end a turn, in training and in generation: EOS, ``<end_of_turn>``, the chat template's own."""
        ids = {self.eos_id, self.end_of_turn_id}
        if self.chat is not None and self.chat.turn_end is not None:
            ids.add(self._raw.token_to_id(self.chat.turn_end))
        return frozenset(token for token in ids if token is not None)

    def added_texts(self) -> list[str]:
        """The added tokens that a text may name: those that are not special."""
        special = {row["content"] for row in self._added if row.get("special")}
        return [row["content"] for row in self._added if row["content"] not in special]

    def digest(self) -> str:
        """SHA-256 over the folder's files: it tells token caches of different tokenizers apart."""
        return digest_json({name: digest_bytes(data) for name, data in self._files.items()})

    def encode(self, text: str) -> list[int]:
        """The ids of a text; no BOS, no EOS. Raises InputInvalid M304 if the vocabulary makes one of them from a text."""
        return self._checked(self._raw.encode(text, add_special_tokens=False).ids, text, self._forbidden)

    def encode_many(self, texts: Sequence[str], *, kind: SegmentKind = "plain") -> list[list[int]]:
        """:meth:`encode` of each text, on all cores; ``kind``: see :mod:`engine.trainer.text.segment`."""
        if not texts:
            return []
        raw, forbidden = self._encoder(kind)
        encoded = raw.encode_batch(list(texts), add_special_tokens=False)
        return [self._checked(item.ids, text, forbidden) for item, text in zip(encoded, texts, strict=True)]

    def may_merge(self, left: str, right: str) -> bool:
        """False where no token of the vocabulary can hold the end of ``left`` and the beginning of ``right``."""
        if not left or not right:
            return False
        pair = left[-1] + right[0]
        return self._pairs is None or pair in self._pairs or pair.replace(*self._replace) in self._pairs

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens and ids outside the vocabulary."""
        visible = [int(token) for token in ids if int(token) not in self._skipped]
        text: str = self._raw.decode(visible, skip_special_tokens=False)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each id; joined they are the text of all. Control tokens by name.

        Where a character takes several tokens, all but the last have the text "".
        """
        pieces, pending = [], []
        for token in map(int, ids):
            pending.append(token)
            text = self._piece(pending)
            if text.endswith("\N{REPLACEMENT CHARACTER}") and len(pending) < LONGEST_CHARACTER:
                pieces.append("")
                continue
            pieces.append(text)
            pending = []
        if pending:
            pieces[-1] = self._piece(pending)
        return pieces

    def _piece(self, ids: Sequence[int]) -> str:
        if len(ids) == 1:
            name: str | None = self._raw.id_to_token(ids[0])
            if name is not None and (ids[0] in self._skipped or name in TURN_MARKERS):
                return name
        text: str = self._raw.decode(list(ids), skip_special_tokens=False)
        return text

    def _encoder(self, kind: SegmentKind) -> tuple[tokenizers.Tokenizer, AbstractSet[int | None]]:
        """The library's tokenizer for a kind of text, and the ids it must not produce."""
        if kind == "plain" or self.chat is None:
            return self._raw, self._forbidden
        if kind == "template":
            return self._as_template, set()
        return self._as_literal, {self._raw.token_to_id(name) for name in self.chat.control_tokens}

    @cached_property
    def _as_template(self) -> tokenizers.Tokenizer:
        raw = _build(_json(self._files[TOKENIZER_FILE], self._source), self._source)
        raw.encode_special_tokens = False
        return raw

    @cached_property
    def _as_literal(self) -> tokenizers.Tokenizer:
        assert self.chat is not None
        document = _json(self._files[TOKENIZER_FILE], self._source)
        return _build(document, self._source, special=self.chat.control_tokens)

    @cached_property
    def _replace(self) -> tuple[str, str]:
        """What the normaliser replaces, and by what; used only where :attr:`_pairs` is not None."""
        normalizer = self._shape.get("normalizer") or {}
        pattern = (normalizer.get("pattern") or {}).get("String") or "\n"
        return pattern, str(normalizer.get("content", pattern))

    @cached_property
    def _pairs(self) -> frozenset[str] | None:
        """Every pair of neighbouring characters inside a token; None where tokens do not consist of the text's characters."""
        model, normalizer = self._shape["model"], self._shape.get("normalizer")
        by_character = (
            model.get("type") == "BPE"
            and model.get("byte_fallback") is True
            and not (model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"))
            and (normalizer is None or (normalizer.get("type") == "Replace" and len(self._replace[0]) == 1))
            and (self._shape.get("pre_tokenizer") or {}).get("type") in (None, "Split")
            and not any(row.get(key) for row in self._added for key in ("lstrip", "rstrip", "single_word"))
        )
        if not by_character:
            return None
        vocab = self._raw.get_vocab(with_added_tokens=True)
        return frozenset(name[start : start + 2] for name in vocab for start in range(len(name) - 1))

    def _checked(self, ids: list[int], text: str, forbidden: AbstractSet[int | None]) -> list[int]:
        """The ids. A vocabulary can spell a control token from ordinary pieces, which would break this module's law."""
        if forbidden.isdisjoint(ids):
            return ids
        name = next(self._raw.id_to_token(token) for token in ids if token in forbidden)
        raise InputInvalid(
            "M304",
            f"this tokenizer makes the control token {name!r} from a text: {text[:60]!r}",
            hint=f"remove {name!r} from the text",
        )

    def _rows_needed(self, markers: set[int | None]) -> int:
        template = self.template_text() or ""
        used = {self.bos_id, self.eos_id, self.pad_id, *markers}
        unreachable = {
            row["id"] for row in self._added if row.get("special") and row["content"] not in template
        } - used  # fmt: skip
        ids: dict[str, int] = self._raw.get_vocab(with_added_tokens=True)
        return 1 + max(token for token in ids.values() if token not in unreachable)

    def template_text(self) -> str | None:
        """chat_template.jinja, else tokenizer_config.json's (the one named "default" of several), as transformers."""
        if TEMPLATE_FILE in self._files:
            if self._files[TEMPLATE_FILE].startswith(BOM_UTF8):
                raise _no_template(
                    self._source, f"{TEMPLATE_FILE} begins with a byte order mark: save it as UTF-8 without BOM"
                )
            try:
                return self._files[TEMPLATE_FILE].decode()
            except UnicodeDecodeError as error:
                raise _no_template(self._source, f"{TEMPLATE_FILE} is not UTF-8") from error
        template = self._settings.get("chat_template")
        if isinstance(template, list):
            named = {row.get("name"): row.get("template") for row in template if isinstance(row, dict)}
            if "default" not in named:
                raise _no_template(self._source, f"none of {', '.join(map(str, named))} is called default")
            template = named["default"]
        if template is not None and not isinstance(template, str):
            raise _no_template(self._source, "it is not a string")
        return template

    def _special_names(self) -> dict[str, str]:
        """ "bos_token" -> "<bos>", from tokenizer_config.json, else special_tokens_map.json."""
        older = _json(self._files[SPECIALS_FILE], self._source) if SPECIALS_FILE in self._files else {}
        names: dict[str, str] = {}
        for key, value in (*older.items(), *self._settings.items()):
            text = value.get("content") if isinstance(value, dict) else value
            if key in ROLES and isinstance(text, str):
                names[key] = text
        return names

    def _id_of(self, role: str) -> int:
        text = self._names.setdefault(role, f"<{role.removesuffix('_token')}>")
        token: int | None = self._raw.token_to_id(text)
        if token is None:
            raise InputInvalid(
                "M303",
                f"the vocabulary has no {role} {text!r}",
                where=Where(file=self._source),
                hint=f'name it as "{role}" in {CONFIG_FILE}',
            )
        return token


def build_chars() -> Tokenizer:
    """The tiny model's tokenizer: one token a byte, id = byte + 4.

    Printable ASCII and the newline are tokens named by their character; every other byte is Hugging Face's byte
    fallback token (``<0xC3>``). So any Unicode text can be encoded and decoded without loss, the vocabulary is 260, and
    ids 0 to 3 are pad, eos, bos, unk as in Gemma.
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
    except (ValueError, RecursionError) as error:
        raise _broken(source, error) from error
    if not isinstance(document, dict):
        raise _broken(source, ValueError("not a JSON object"))
    return document


def _build(
    document: Mapping[str, Any], source: str, *, text: Sequence[str] = (), special: Sequence[str] = ()
) -> tokenizers.Tokenizer:
    """The library's tokenizer, reading special tokens as letters.

    ``text``: names that are not special here, ``special``: names that are, whatever the document says.
    """
    overrides = dict.fromkeys(text, False) | dict.fromkeys(special, True)
    added = [
        row | {"special": overrides.get(row.get("content"), row.get("special", False))}
        for row in document.get("added_tokens") or []
    ]
    try:
        raw = tokenizers.Tokenizer.from_str(json.dumps({**document, "added_tokens": added}))
    except Exception as error:  # the library raises bare Exception
        raise _not_understood(document, source, error) from error
    raw.no_padding()
    raw.no_truncation()
    raw.encode_special_tokens = True
    return raw


def _not_understood(document: Mapping[str, Any], source: str, error: Exception) -> InputInvalid:
    """Sound JSON that the library does not know: of a newer release of it, as a rule, and then fetching again is no help."""
    if not isinstance(document.get("model"), dict):
        return _broken(source, error)
    return InputInvalid(
        "M310",
        f"tokenizers {tokenizers.__version__} does not understand this tokenizer: {error}",
        where=Where(file=source),
        hint="it was probably saved by a newer release: pip install --upgrade tokenizers transformers, or save it "
        "with this one (AutoTokenizer, save_pretrained)",
    )


def _no_template(source: str, reason: str) -> InputInvalid:
    return InputInvalid(
        "M305",
        f"the model's chat template cannot be used: {reason}",
        where=Where(file=source),
        hint="correct the template, or remove it from the model folder: gemma_chat@v1 is used then",
    )


def _broken(source: str, error: Exception) -> InputInvalid:
    return InputInvalid(
        "M302",
        f"the tokenizer file cannot be read: {error}",
        where=Where(file=source),
        hint="fetch or save the folder again",
    )
