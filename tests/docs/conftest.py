"""The pages, what links and headings they hold, and the terminal that the tutorials' commands are typed into."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        """Without code: what stands in it is no link and no heading. Lines keep their numbers."""
        lines = FENCE.sub(lambda found: "\n" * found[0].count("\n"), self.text).split("\n")
        kept = [
            "" if line.startswith("    ") and not line.lstrip().startswith(("-", "*", "1")) else line for line in lines
        ]
        return "\n".join(CODE.sub("", line) for line in kept)

    @property
    def headings(self) -> list[str]:
        """As they are written, in order."""
        return [found[2] for found in HEADING.finditer(FENCE.sub("", self.text))]

    def github_anchors(self) -> set[str]:
        """The anchors that GitHub gives the headings."""
        return {re.sub(r"[^\w\- ]", "", _words(heading).lower()).replace(" ", "-") for heading in self.headings}

    def site_anchors(self) -> set[str]:
        """The anchors that Python-Markdown, and so the site, gives the headings."""
        plain = (_words(heading).encode("ascii", "ignore").decode() for heading in self.headings)
        return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()) for words in plain}

    def links(self) -> Iterator[str]:
        """The targets of all links and images."""
        return (found[1] for found in LINK.finditer(self.prose))


def _words(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


@pytest.fixture(scope="session")
def pages(repository: Path) -> Mapping[str, Page]:
    """Path in the repository -> page: the documents, and the pages beside them that people read."""
    paths = [*(repository / "docs").rglob("*.md"), *(repository / name for name in ("README.md", "CONTRIBUTING.md"))]
    paths += [repository / "CHANGELOG.md", repository / "benchmarks" / "README.md"]
    return {
        path.relative_to(repository).as_posix(): Page(path, path.read_text(encoding="utf-8")) for path in sorted(paths)
    }


@pytest.fixture(scope="session")
def console() -> ModuleType:
    """The file beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location("docs_console", Path(__file__).with_name("console.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_console"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment() -> Mapping[str, str]:
    """A reader's environment: the ``runspec`` and ``python`` of these tests come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
