"""The project speaks the field's language: words and constructions that it gave up do not come back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest


class OldWord(NamedTuple):
    """A pattern that no file may match, what to write instead, and a text that it matches."""

    pattern: str
    instead: str
    example: str


OLD_WORDS = (
    # training runs, interruption and resuming
    OldWord(r"\bwish(es)? to stop\b|\bSAME_WISH\w*|\bare one wish\b", "stop request, stop signal", "a wish to stop"),
    OldWord(r"\btrainings\b", "training runs", "the trainings of a run"),
    OldWord(r"\b[Aa] training (goes|went|that|which|is|was|does|under)\b", "a training run …", "a training goes on"),
    OldWord(r"\b(went|goes|go|going|gone) on (from|where|to the same)\b", "resume(s), resumed from", "went on from 25"),
    OldWord(r"\bagain to go on\b|\bhow to go on\b|\bgone on with\b", "to resume", "type it again to go on"),
    OldWord(r"\bbegun again\b|\bbegin(s)? (it|the job) again\b", "restarted", "the scheduler begins it again"),
    OldWord(r"\bborne\b", "tolerated", "how many skipped steps are borne"),
    OldWord(r"\b(checkpoint|artifact)('s)? marks?\b|\bMARK = ", "manifest", "the checkpoint's mark"),
    # numbers
    OldWord(r"(?<!there )\b(is|are|was|were|be) no numbers?\b", "is not a number; non-finite", "gradients are no numbers"),
    OldWord(r"\brounded at random\b", "stochastic rounding", "weights are rounded at random"),
    OldWord(r"\b[Pp]roducts with weights\b|\bof products\b", "matmuls", "operands of products with weights"),
    OldWord(r"\bpass makes again\b|\bfinds kept\b", "recomputes, saved", "what the backward pass makes again"),
    # devices and processes
    OldWord(r"\bdeal(s|t)? (\w+ )?out\b", "shard, distribute, allocate", "sequences are dealt out"),
    OldWord(r"\bcut over the\b|\bcut along (fsdp|tp)\b", "sharded over, sharded along", "cut over the devices"),
    OldWord(r"\b(lies?|lay) on (the|its|a|each|every) (target's )?(devices?|mesh)\b", "is placed, sharded",
            "how weights lie on a mesh"),
    OldWord(r"\bwhole on (every|each|all) devices?\b", "replicated", "a leaf that is whole on every device"),
    OldWord(r"\b(P|p)laces (of|along) fsdp\b|\bplaces of the mesh\b", "size of the fsdp axis", "places of fsdp"),
    OldWord(r"\bPeers\b|\bALONE\b", "ProcessGroup, SINGLE_PROCESS", "class Peers"),
    OldWord(r"\bPatience\b|\bNAP\b", "RetryPolicy, delay", "class Patience"),
    # files and text
    OldWord(r"\bfree some room\b|\b[Dd]isk's room\b|\broom (is|was) left\b", "disk space", "free some room"),
    OldWord(r"\bhal(f|ves) (of a )?surrogates?\b", "lone surrogate", "half surrogates"),
    OldWord(r"\bused up on both sides\b", "every tensor must match a parameter, and every parameter a tensor",
            "names are used up on both sides"),
    OldWord(r"\bhas a meaning with\b", "applies only with", "top_k has a meaning with temperature"),
    # constructions
    OldWord(r"(?<!there )\b(is|are) no (step|object|terminal|override|mapping|character|handler|index|name)s?\b", "is not a …",
            "a log that is no terminal"),
    OldWord(r"\b[Ww]hom\b", "which, who; name it", "whom the job file is for"),
    OldWord(r"\b[Ww]ho adds a\b", "A new … is", "Who adds a step writes one module"),
    OldWord(r"\bWhat (goes in|comes out):", "In: …, Out: …", "What goes in: a path."),
    # names of modules and keywords
    OldWord(r"\bengine[./]spec[./]\w", "engine.runspec", "engine.spec.rules"),
    OldWord(r"\b(fused_loss|tied_update|array_folder|checkpoint_mark|hubfile)\b", "the module's new name", "fused_loss"),
    OldWord(r"\b(alsoCalled|endsBy|onlyWith|onlyWithAny|onlyAbove|isMultipleOf|neededWith|patternHint|enumHint)\b",
            "x-aliases, x-ends-by, x-only-with, …", '"alsoCalled": ["lr"]'),
    OldWord(r"[\"'](watches|resumable|usual|asks|holds|atMost)[\"']:", "x-affects, x-typical, x-requires, …",
            '"watches": true'),
)  # fmt: skip

# What is scanned. Folders end with a slash.
SCANNED = (
    "engine/", "schemas/", "templates/", "runspecs/", "evalsets/", "tests/", "docs/", "benchmarks/",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "mkdocs.yml", "pyproject.toml", ".ci/",
)  # fmt: skip
# Files that need an old word, with the reason.
EXEMPT: Mapping[str, str] = {
    "tests/meta/test_words.py": "this list",
    "engine/commands/follow.py": "a key of the JSON answer, which stays",
    "engine/runspec/keywords.py": "translates the old keywords of plug-ins",
    "tests/runspec/test_keywords.py": "shows that they are translated",
    "tests/plugins/test_old_keywords.py": "a plug-in that has them",
}
# Evidence that an earlier engine wrote: its words are part of the bytes that its digests cover.
EXEMPT_FOLDER = "tests/fixtures/evidence_of_version_1/"

# Ordinary English that the list must leave alone.
ORDINARY = (
    "there is no number of devices in it", "the training data", "a training step", "the run goes on for an hour",
    "products and sums", "a mark in the margin", "the place in the file", "cut off their end", "the whole model",
    "he dealt with it", "at random", "rounded to the nearest even number", "on the other devices", "more room for",
    "there is no step with this id", "it is no longer needed", "half of the rows", "peers review the code",
    "the room has a door", "onlyWithPeople is a name", "it lies in the folder", "stands alone", "what comes out of it",
)  # fmt: skip


def _hits(texts: Mapping[str, str]) -> Iterator[str]:
    patterns = [(re.compile(word.pattern), word.instead) for word in OLD_WORDS]
    for name, text in texts.items():
        if name.startswith(SCANNED) and name not in EXEMPT and not name.startswith(EXEMPT_FOLDER):
            for number, line in enumerate(text.split("\n"), start=1):
                for pattern, instead in patterns:
                    if match := pattern.search(line):
                        yield f"{name}:{number}: {match[0]!r}; write: {instead}"


def test_no_old_word_is_left(texts: Mapping[str, str]) -> None:
    """Each hit is named with its file, its line and the word to write."""
    assert list(_hits(texts)) == []


@pytest.mark.parametrize("word", OLD_WORDS, ids=lambda word: word.example)
def test_each_pattern_matches_its_example(word: OldWord) -> None:
    """No pattern of the list is dead."""
    assert re.search(word.pattern, word.example)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_english_is_left_alone(text: str) -> None:
    """The list names phrases, not words that have other uses."""
    assert [word.example for word in OLD_WORDS if re.search(word.pattern, text)] == []


def test_every_exemption_is_needed(texts: Mapping[str, str]) -> None:
    """A file that is exempt exists, and the folder has files."""
    assert set(EXEMPT) <= set(texts)
    assert any(name.startswith(EXEMPT_FOLDER) for name in texts)
