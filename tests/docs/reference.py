"""Rewrites what is generated in the reference pages: ``make reference``.

A page of ``docs/reference/`` is written by hand but for the parts between ``<!-- made: NAME -->`` and
``<!-- end of NAME -->``. In: the pages, and :data:`PARTS` with the function that makes each part. Out: the pages with
every part made again. With ``--check`` nothing is written; the pages that would change are named and the exit code is 1.

To add a part: a function that returns Markdown, a line in :data:`PARTS`, the two markers in a page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import command_pages
import protocol_pages
import schema_pages
import spec_keys

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference"
PARTS: Mapping[str, Callable[[], str]] = {
    "sections": spec_keys.sections,
    "arguments": spec_keys.arguments,
    "commands": command_pages.commands,
    "schemas": schema_pages.schemas,
    "events": protocol_pages.events,
    "jobs": protocol_pages.jobs,
    "train-args": protocol_pages.arguments,
}
PART = re.compile(r"<!-- made: (?P<name>[\w-]+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)


def remade(text: str) -> str:
    """The page with every generated part made again. Raises KeyError for a part that nothing makes."""
    return PART.sub(lambda found: _part(found["name"]), text)


def _part(name: str) -> str:
    return f"<!-- made: {name} -->\n\n{PARTS[name]()}\n\n<!-- end of {name} -->"


def main(words: list[str]) -> int:
    """Rewrite the pages, or name those that would change."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}
    unused = set(PARTS) - {found["name"] for text in pages.values() for found in PART.finditer(text)}
    stale = [path for path, text in pages.items() if remade(text) != text]
    for path in stale:
        if "--check" not in words:
            path.write_text(remade(pages[path]), encoding="utf-8")
        sys.stdout.write(f"{path.name}\n")
    sys.stdout.writelines(f"no page has the markers of the part {name}\n" for name in sorted(unused))
    return int(bool(unused) or ("--check" in words and bool(stale)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
