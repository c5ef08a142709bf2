"""The table of the files of the second stage: name, the shipped text that it is made from, and the function that makes it.

In: the record, the view and the files of the first stage. Out: names and bytes. run_record.json lists each of these
files with its source and the digest of that, as it does for the first stage; so V25 makes every one again.

A new file is one row of :data:`ABOUT`, with a function of the text of its source, of the :class:`Inputs` and of the files of the
rows above, and of nothing else. :func:`_by_template` is the function of what the sandboxed templates write; a page with a view
of its own and a fixed file are other functions of the same form (a fixed file returns its source).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from engine.artifacts.journal import RunRecord
from engine.canonical import JsonMapping, JsonObject, digest_bytes, digest_text
from engine.errors import InputInvalid
from engine.evidence.about.values import about_values
from engine.evidence.render import render_text
from engine.evidence.report.page import PAGE, TEMPLATE, packaged_page
from engine.evidence.shipped import shipped_template
from engine.evidence.standalone import FILE as VERIFY_PY

STATEMENT = "provenance.intoto.json"
# Made after the evidence by whoever signs it, with keys and as an identity: neither rendered nor listed.
SIGNATURES, SIGSTORE = "provenance.dsse.json", "provenance.sigstore.json"
SIGNATURE_FILES = (SIGNATURES, SIGSTORE)


@dataclass(frozen=True)
class Inputs:
    """What the files of the second stage are made from. ``attested``: the files of the first stage."""

    record: RunRecord
    view: JsonMapping
    attested: Mapping[str, bytes]

    @cached_property
    def values(self) -> JsonObject:
        """What their templates can name: the view, and what :func:`about_values` adds."""
        return {**self.view, **about_values(self.record, self.attested, [file.name for file in ABOUT])}


Make = Callable[["AboutFile", str, Inputs, Mapping[str, bytes]], bytes]


class AboutFile(NamedTuple):
    """``source``: the shipped file in ``templates/`` that it is made from, by whose digest the record names it.

    ``make``: of this row, the text of the source, the inputs, and the files of the rows above (name -> bytes).
    """

    name: str
    source: str
    make: Make


def _by_template(file: AboutFile, text: str, inputs: Inputs, _: Mapping[str, bytes]) -> bytes:
    """Rendered in the sandbox, as the files of the first stage are."""
    used: dict[str, str] = {}
    data = render_text(file.name, inputs.values, [{file.source: text}], used).encode()
    assert list(used) == [file.source], "a file of the second stage has one template, whose digest is in the record"
    return data


def _page(_: AboutFile, text: str, inputs: Inputs, __: Mapping[str, bytes]) -> bytes:
    """The page has a view and an environment of its own: what it shows is HTML, and of any length."""
    return packaged_page(inputs.attested, text)


def _template(name: str) -> AboutFile:
    return AboutFile(name, f"{name}.j2", _by_template)


ABOUT: Sequence[AboutFile] = (
    _template(STATEMENT),
    _template("ro-crate-metadata.json"),
    _template("croissant.json"),
    _template("model_card.md"),
    _template("README.txt"),
    AboutFile(PAGE, TEMPLATE, _page),
)
ABOUT_NAMES = frozenset(file.name for file in ABOUT)


def present_sources() -> dict[str, str]:
    """File -> the text of its source, of this engine."""
    return {file.name: shipped_template(file.source) or "" for file in ABOUT}


def digests_of_sources(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """File -> its source -> the digest, as run_record.json lists it."""
    return {file.name: {file.source: digest_text(texts[file.name])} for file in ABOUT}


def make_about(inputs: Inputs, texts: Mapping[str, str]) -> dict[str, bytes]:
    """Every file of the second stage, from the text of each source. Raises what rendering raises."""
    made: dict[str, bytes] = {}
    for file in ABOUT:
        made[file.name] = file.make(file, texts[file.name], inputs, dict(made))
    return made


def refuse_own_templates(template_dirs: Sequence[Path]) -> None:
    """E127: a template of the project that would word one of these files. One with the shipped text is no such."""
    for file in ABOUT:
        for folder in template_dirs:
            path = folder / file.source
            if path.is_file() and digest_bytes(path.read_bytes()) != digest_text(shipped_template(file.source) or ""):
                raise InputInvalid(
                    "E127",
                    f"templates/{file.source} would replace the engine's own text of {file.name}, which strangers rely on",
                    hint=f"rename it and list the new name under evidence.files; {file.name} is made for every run",
                )


def refuse_look_alikes(names: Sequence[str]) -> None:
    """E127: a rendered file whose name differs from one of these in case alone, or is that of the signatures."""
    taken = {name.casefold(): name for name in (*ABOUT_NAMES, *SIGNATURE_FILES, VERIFY_PY)}
    for name in names:
        twin = taken.get(name.casefold())
        if twin is not None and name not in ABOUT_NAMES:
            raise InputInvalid(
                "E127",
                f"evidence.files lists {name}, and {twin} is a file of every evidence folder",
                hint=f"rename it and its template; {twin} needs no entry under evidence.files",
            )
