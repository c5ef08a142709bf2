"""Characters that look like YAML's own, or like nothing, and are neither: named where they stand (codes Y034 and Y035).

In: a line, or a finding about one. Out: the same finding at the character that is at fault. A no-break space is no space to
YAML, a full-width colon no colon: the parser reads on and blames the next line, a check blames a word that looks right.

    >>> import unicodedata
    >>> [unicodedata.name(line[column - 1]) for line in ("seed:\\u00a042", "  seed\\uff1a42") for column in [in_structure(line)]]
    ['NO-BREAK SPACE', 'FULLWIDTH COLON']
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from engine.errors import Diagnostic, Where

CODES = ("Y034", "Y035")
VISIBLE = "\N{REPLACEMENT CHARACTER}"  # what a message shows for a character without a width
# Findings about a word that a schema knows; in a path or a sentence a full-width sign may be meant.
ABOUT_WORDS = frozenset({"S101", "S103", "S104", "S105", "S107", "S201", "U202"})

_QUOTES = dict.fromkeys("“”„‟«»「」", '"') | dict.fromkeys("‘’‚‛", "'")
_DASHES = dict.fromkeys("‐‑‒–—−•", "-")
_COLONS = "：﹕︓ː"
_COMMAS = "，、﹐"
_OTHERS = dict.fromkeys(_COLONS, ":") | dict.fromkeys(_COMMAS, ",")
# Letters of other scripts in the shape of Latin ones; where every foreign letter of a word is one of them, Latin was meant.
_LETTERS = dict(
    zip("асԁеһіјӏԛорѕԝхуАВСЕНІЈКМОРЅТХУ" + "αικνορυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
        "acdehijlqopswxyABCEHIJKMOPSTXY" + "aiknopuABEZHIKMNOPTYX", strict=True)
)  # fmt: skip
_WORD = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|(?<!\S)#.*""")  # quoted text, a comment


def is_invisible(character: str) -> bool:
    """A space that is not the plain one, or a character without a width (zero-width, bidirectional, soft hyphen)."""
    return character not in " \t" and unicodedata.category(character) in ("Zs", "Cf")


def meant(character: str) -> str | None:
    """The character of YAML's own that this one only looks like, or None."""
    if character.isascii():
        return None
    plain = {**_QUOTES, **_OTHERS}.get(character) or unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and plain.isascii() and not plain.isspace() else None


def in_structure(line: str, *, is_at_fault: bool = True) -> int | None:
    """The column of the first such character that stands where YAML reads structure: indentation, a dash, a key, a colon, a bracket.

    Text after the colon may have any character; quoted text and comments are not looked at. In a line that is not at fault
    itself, text may also begin with a quotation mark of any kind, and have brackets.
    """
    bare = _WORD.sub(lambda match: "x" * len(match[0]), line)
    indent = re.match(r"\s*", bare)
    body = bare[indent.end() if indent else 0 :]
    start = len(bare) - len(body)
    spots = [index for index in range(start) if is_invisible(bare[index])]
    if body[:1] in _DASHES and (body[1:2].isspace() or not body[1:]):
        spots.append(start)
    spots += [match.end() for match in re.finditer(r"(?<!\S)-(?=\s)|:(?=\s)", bare) if is_invisible(bare[match.end()])]
    key_ends = bare.find(": ") if ": " in bare else bare.rfind(":") if bare.rstrip().endswith(":") else -1
    colon = next((index for index, character in enumerate(bare) if character in _COLONS), -1)
    if key_ends < 0 <= colon:
        spots.append(colon)
    spots += [index for index in range(start, key_ends) if is_invisible(bare[index]) or meant(bare[index])]
    if not is_at_fault:
        return min(spots) + 1 if spots else None
    value = re.search(r"(?::|(?<!\S)-|[\[{,])[ ]+(?=(.))", bare)
    if value and value[1] in _QUOTES:
        spots.append(value.end())
    if re.search(r"[\[{]", bare):
        spots += [
            index for index, character in enumerate(bare) if (meant(character) or "") in ":,[]{}" and meant(character)
        ]
    return min(spots) + 1 if spots else None


def finding_at(where: Where, column: int) -> Diagnostic:
    """The finding about the character in this column of the line."""
    text = where.text or ""
    character = text[column - 1]
    code = f"U+{ord(character):04X}"
    name = f"{_article(character)} ({code})"
    shown = "".join(VISIBLE if is_invisible(one) else one for one in text)
    place = replace(where, column=column, width=1, text=shown)
    if is_invisible(character):
        if unicodedata.category(character) == "Zs":
            return Diagnostic(
                "Y034", f"{name} is here, which is not a space to YAML", place, "type a plain space in its place"
            )
        return Diagnostic("Y034", f"{name} is here, which nobody sees", place, "delete it; it was probably pasted in")
    plain = meant(character) or _LETTERS.get(character) or _DASHES[character]
    return Diagnostic("Y035", f"{name} is here, which only looks like {plain}", place, f"type {plain} in its place")


def _article(character: str) -> str:
    name = (
        unicodedata.name(character, "character without a name")
        .lower()
        .replace("fullwidth", "full-width")
        .replace("zero width", "zero-width")
        .replace("cyrillic", "Cyrillic")
        .replace("greek", "Greek")
    )
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def at_the_character(finding: Diagnostic) -> Diagnostic:
    """The finding, moved to the character that made the underlined word wrong, where there is one."""
    where = finding.where
    if finding.severity != "error" or where is None or where.text is None or not where.column or finding.code in CODES:
        return finding
    end = min(len(where.text), where.column - 1 + where.width)
    foreign = [one for one in where.text[where.column - 1 : end] if not one.isascii()]
    is_latin = finding.code in ABOUT_WORDS and all(one in _LETTERS for one in foreign)
    for index in range(where.column - 1, end):
        character = where.text[index]
        is_other = finding.code in ABOUT_WORDS and (meant(character) or (is_latin and character in _LETTERS))
        if is_invisible(character) or is_other:
            return finding_at(where, index + 1)
    return finding
