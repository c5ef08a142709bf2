"""``docs``: the documentation in the terminal, by topic or by error code.

In: the Markdown pages that ship with the engine. Out: the list of topics, one page, or the row of
one error code; on a terminal rendered by rich, in a pipe as plain Markdown.

A topic is a page's file name: ``own-data`` is ``docs/how-to/own-data.md``. The pages beside ``index.md`` redirect
from old addresses: they can be named and are not listed.

    >>> find("own-data").title
    'Train on your own data'
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.assets import asset
from engine.commands import Reply, pick
from engine.commands.parsing import aligned
from engine.errors import Diagnostic

# folder -> its heading in the list, in this order
PARTS = {
    "tutorials": "tutorials: learn by doing",
    "how-to": "how-to guides: one page a task",
    "how-to/extend": "how-to guides: extend the engine",
    "reference": "reference: complete and dry",
    "explanation": "explanation: how it works and why",
}
ERRORS = "errors"
MOST_PAGES = 6
_CODE = re.compile(r"[A-Z]\d{2,3}")
_LINK = re.compile(r"\[([^\]]+)\]\((?:[^)#]*/)?([\w-]+)\.md[^)]*\)")


@dataclass(frozen=True, slots=True)
class Topic:
    """One page: ``part`` is its folder, ``about`` its first sentence."""

    name: str
    part: str
    title: str
    about: str
    path: Path

    def as_json(self) -> dict[str, str]:
        """The row that ``--json`` prints; ``path`` is relative to ``docs/``."""
        return {"topic": self.name, "part": self.part, "title": self.title, "about": self.about, "path": self.address}

    @property
    def address(self) -> str:
        """``how-to/own-data.md``."""
        return self.path.relative_to(asset("docs")).as_posix()

    def text(self) -> str:
        """The page as Markdown."""
        return self.path.read_text(encoding="utf-8").rstrip("\n")


def _topic(path: Path) -> Topic:
    title, about, *_ = [line for line in path.read_text(encoding="utf-8").splitlines() if line] + [""]
    part = path.parent.relative_to(asset("docs")).as_posix()
    return Topic(path.stem, part, title.removeprefix("# "), about, path)


def topics() -> list[Topic]:
    """All pages but the redirects: part by part, in the order of ``index.md``."""
    index = (asset("docs") / "index.md").read_text(encoding="utf-8")
    pages = [_topic(path) for part in PARTS for path in sorted((asset("docs") / part).glob("*.md"))]
    order = {part: number for number, part in enumerate(PARTS)}
    return sorted(pages, key=lambda page: (order[page.part], index.find(f"({page.address})")))


def find(name: str) -> Topic:
    """The page of that name: ``own-data``, ``own data``, or its address. Raises InputInvalid U110 with what is near.

    Near is a topic of a similar name, else the pages that say the word.
    """
    word = re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("docs/").removesuffix(".md")
    pages = {page.name: page for page in (*map(_topic, asset("docs").glob("*.md")), *topics())}
    addresses = {page.address.removesuffix(".md"): page.name for page in pages.values()}
    return pages[pick("topic", addresses.get(word, word), pages, or_else=_pages_with(name.strip().lower(), pages))]


def _pages_with(words: str, pages: Mapping[str, Topic]) -> str:
    """The topics whose pages say these words, those that say them most often first; else how to see all topics."""
    counts = {page.name: page.text().lower().count(words) for page in pages.values()} if words else {}
    said = sorted((name for name, count in counts.items() if count), key=lambda name: (-counts[name], name))
    also = f'pages that say "{words}": {", ".join(said[:MOST_PAGES])}\n' if said else ""
    return f"{also}`runspec docs` lists the topics"


def error_rows() -> dict[str, tuple[str, str]]:
    """Error code -> (meaning, remedy), from the reference page.

    >>> error_rows()["Y004"][0]
    'the run-spec is empty'
    """
    text = (asset("docs") / "reference" / f"{ERRORS}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z]\d{2,3})` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {code: (meaning, remedy) for code, meaning, remedy in rows}


def explained(diagnostics: tuple[Diagnostic, ...]) -> str | None:
    """The first of the codes that the reference explains; a plug-in's own codes have no row. None too where it cannot be read.

    >>> explained((Diagnostic("Z999", "a plug-in's"), Diagnostic("Y004", "empty")))
    'Y004'
    """
    try:
        rows = error_rows()
    except OSError:  # too many open files, say: the error itself has been printed
        return None
    return next((diagnostic.code for diagnostic in diagnostics if diagnostic.code in rows), None)


def _error(code: str) -> str:
    """The row of one error code, as Markdown; links become topics."""
    rows = error_rows()
    meaning, remedy = rows[pick("error code", code, rows, or_else=f"`runspec docs {ERRORS}` lists them")]
    row = f"# {code}\n\n{meaning[0].upper()}{meaning[1:]}.\n\n"
    row += f"What to do: {remedy}.\n\n" if remedy != "–" else ""
    return _typeable(row) + f"All codes: `runspec docs {ERRORS}`."


def _typeable(markdown: str) -> str:
    """Links to pages become commands to type.

    >>> _typeable("see [Memory](../explanation/memory.md#remat)")
    'see Memory (`runspec docs memory`)'
    """
    return _LINK.sub(r"\1 (`runspec docs \2`)", markdown)


def _listing(pages: list[Topic]) -> str:
    left = max(len(page.name) for page in pages)
    lines = []
    for part, heading in PARTS.items():
        rows = [(page.name.ljust(left), page.about) for page in pages if page.part == part]
        lines += [f"{heading}\n{aligned(rows)}\n"] if rows else []
    return "\n".join([*lines, "`runspec docs TOPIC` prints a page, `runspec docs T114` explains an error code."])


def rendered(markdown: str, width: int) -> str:
    """Markdown rendered for a terminal; a link to a page becomes a command. NO_COLOR is respected."""

    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with console.capture() as capture:
        console.print(Markdown(_typeable(re.sub(r"<!--.*?-->\n*", "", markdown)), hyperlinks=False))
    return capture.get().rstrip("\n")


def _for_reader(markdown: str) -> str:
    """Rendered where standard output is a terminal, plain elsewhere."""

    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return markdown
    return rendered(markdown, min(shutil.get_terminal_size().columns, 120))


def docs(arguments: Namespace) -> Reply:
    """The topics, a page, or an error code."""
    if arguments.topic is None:
        pages = topics()
        return Reply({"ok": True, "topics": [page.as_json() for page in pages]}, _listing(pages))
    part = arguments.topic.strip().lower().removeprefix("docs/").rstrip("/")
    if part in PARTS:
        pages = [page for page in topics() if page.part == part or page.part.startswith(f"{part}/")]
        return Reply({"ok": True, "topics": [page.as_json() for page in pages]}, _listing(pages))
    if _CODE.fullmatch(arguments.topic.upper()):
        name, page = arguments.topic.upper(), find(ERRORS)
        text = _error(name)
    else:
        page = find(arguments.topic)
        name, text = page.name, page.text()
    printed = text if arguments.json else _for_reader(text)
    document = {"ok": True, "topic": name, "path": page.address, "text": text}
    return Reply(document, printed, styled=printed != text)
