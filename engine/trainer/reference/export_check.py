"""Whether transformers reads in an export what we write, and in the base's config.json what we read.

In: what will be written beside the weights. Out: nothing where both agree; else an error, or sentences for the log.

    with ExportCheck(write, config, tokenizer, source=mapping, cache=cache) as check:
        check.begin()             # beside the compilation of the train step: a run starts no later for it
        notes = check.wait()      # before the first train step: raises InputInvalid M109, M110, M311

What is exported is known before the first train step, since training changes neither configuration nor tokenizer: so a
folder that transformers would not load is refused then, and not after hours. That they agreed is kept under the digest
of all that was asked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.canonical import digest_json, write_atomic
from engine.errors import InputInvalid, Where
from engine.model_config import CONFIG_FILE, config_from_hf, read_mapping
from engine.model_config.decoder import DecoderConfig
from engine.model_config.keys import BOOKKEEPING, OLDER_DUMPS
from engine.trainer.reference.asking import BROKEN, Asking, CannotAnswer
from engine.trainer.text.tokenizer import Tokenizer

TEXTS = ("What is 12 + 30?\nAnswer: 42", "na\u00efve \u6f22\u5b57  \U0001f600\n\n\tx")
MOST_ADDED = 32  # added tokens that are compared as well
WRONG_CONFIG = "correct config.json, or install the release of transformers that constraints.txt names"


class ExportCheck:
    """One run's check; a context that ends what is still being asked."""

    def __init__(
        self,
        write: Callable[[Path], None],
        config: DecoderConfig,
        tokenizer: Tokenizer,
        *,
        source: Mapping[str, Any] | None,
        cache: Path,
    ) -> None:
        """``write``: writes the files beside the weights into a folder; ``source``: the base's config.json."""
        self._write, self._config, self._tokenizer, self._source = write, config, tokenizer, source
        self._name = f"transformers {metadata.version('transformers')}"
        self._probes = [*TEXTS, *tokenizer.added_texts()[:MOST_ADDED]]
        asked = digest_json([config.to_hf(), tokenizer.digest(), source, self._name, self._probes])
        self._kept = cache / "reference" / f"{asked}.json"
        self._agreed = json.dumps({"agrees": asked})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._asking: Asking | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asking is not None:
            self._asking.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def begin(self) -> None:
        """Start asking, unless the answer is kept."""
        if self._kept.is_file() and self._kept.read_bytes() == self._agreed.encode():
            return
        self._folder = tempfile.TemporaryDirectory(prefix="runspec-export-")
        root = Path(self._folder.name)
        self._write(root / "asked" / "export")
        if self._source is not None:
            (root / "asked" / "base").mkdir()
            (root / "asked" / "base" / CONFIG_FILE).write_text(json.dumps(self._source), encoding="utf-8")
        self._asking = Asking("read", root / "asked", root / "answer.json", self._probes)

    def wait(self) -> list[str]:
        """Sentences about what is read otherwise and does no harm. Raises InputInvalid M109, M110, M311."""
        if self._asking is None:
            return []
        try:
            said = json.loads(self._asking.answer())
        except CannotAnswer as error:
            raise InputInvalid("M110", f"transformers cannot be asked: {error}", hint=BROKEN) from error
        self._asking, export = None, said["export"]
        if "config_error" in export:
            message = f"{self._name} refuses the config.json of the export: {export['config_error']}"
            raise InputInvalid("M109", message, hint=WRONG_CONFIG)
        self._compare(export["config"], f"the {CONFIG_FILE} of the export")
        notes = [*self._tokenizer_notes(export), *self._base_notes(said.get("base"))]
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._kept, self._agreed)
        return [*notes, f"{self._name} reads the configuration and the tokenizer of the export"]

    def _base_notes(self, said: Mapping[str, Any] | None) -> Iterator[str]:
        """Its class may refuse what we read all the same: an integer for a float."""
        if said is None:
            return
        if "config_error" in said:
            yield f"{self._name} would refuse the base's {CONFIG_FILE}: {said['config_error']}"
            return
        self._compare(said["config"], f"the base's {CONFIG_FILE}")
        assert self._source is not None
        for key in set(read_mapping(self._source).read_past) - OLDER_DUMPS - BOOKKEEPING:
            values = [level[key] for level in _levels(self._source) if key in level]
            defaults = [level[key] for level in _levels(said["defaults"]) if key in level]
            if defaults and values != defaults[:1]:
                message = f'{self._name} computes with "{key}" of the base\'s {CONFIG_FILE} ({values[0]!r}), the engine does not'
                raise InputInvalid("M109", message, where=Where(file=CONFIG_FILE, path=key), hint=WRONG_CONFIG)

    def _compare(self, theirs: Mapping[str, Any], what: str) -> None:
        """Raises M109 for the first value that both read differently."""
        read, ours = config_from_hf(theirs, self._name).to_hf(), self._config.to_hf()
        for key in ours:
            if read.get(key) != ours[key]:
                message = f'{self._name} reads "{key}" in {what} as {read.get(key)!r}, the engine as {ours[key]!r}'
                raise InputInvalid("M109", message, where=Where(file=CONFIG_FILE, path=key), hint=WRONG_CONFIG)

    def _tokenizer_notes(self, said: Mapping[str, Any]) -> Iterator[str]:
        if "tokenizer_error" in said:
            raise InputInvalid(
                "M311",
                f"{self._name} cannot load the tokenizer that would be exported: {said['tokenizer_error']}",
                hint="save the base's tokenizer once with AutoTokenizer's save_pretrained, and use that folder",
            )
        for role, ours in (("bos_token_id", self._tokenizer.bos_id), ("eos_token_id", self._tokenizer.eos_id)):
            if said[role] != ours:
                yield f"{self._name} has the {role} {said[role]} for the exported tokenizer, the engine {ours}"
        for text, theirs in zip(self._probes, said["ids"], strict=True):
            if theirs != (ours_ids := self._tokenizer.encode(text)):
                yield f"{self._name} encodes {text!r} as {theirs} with the exported tokenizer, the engine as {ours_ids}"
                return


def _levels(mapping: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A configuration and the text part nested in it."""
    nested = mapping.get("text_config")
    return [mapping, nested] if isinstance(nested, Mapping) else [mapping]
