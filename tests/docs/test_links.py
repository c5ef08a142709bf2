"""Links, anchors, the navigation and the index of the documents, without the site's generator."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ruamel.yaml import YAML

TEXTS = {".py", ".json", ".j2", ".yaml", ".md", ".txt"}
OUTSIDE = re.compile(r"[a-z][a-z+.-]*:", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(repository: Path) -> Mapping[str, Any]:
    """The site's configuration."""
    return dict(YAML(typ="safe").load(repository / "mkdocs.yml"))


def _leaves(nav: Any) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else _leaves(value)


def _fault(page: Any, link: str, pages: Mapping[str, Any], repository: Path) -> str | None:
    """What is wrong with a link of a page; None: nothing."""
    if OUTSIDE.match(link):
        return None
    address, _, anchor = link.partition("#")
    target = Path(os.path.normpath(page.path.parent / unquote(address))) if address else page.path
    docs = repository / "docs"
    if not target.exists():
        return "leads nowhere"
    if page.path.is_relative_to(docs) and not target.is_relative_to(docs):
        return "leaves docs/, which the site and the wheel do not"
    if not anchor:
        return None
    other = pages.get(target.relative_to(repository).as_posix())
    if other is None or anchor not in other.github_anchors():
        return "names no heading"
    return None if anchor in other.site_anchors() else "is no anchor on the site"


def test_every_relative_link_leads_somewhere(pages: Mapping[str, Any], repository: Path) -> None:
    """Each link of each page names a file that is there, and each anchor a heading of it, on GitHub and on the site."""
    faults = {
        (name, link): fault
        for name, page in pages.items()
        for link in page.links()
        if (fault := _fault(page, link, pages, repository))
    }
    assert faults == {}


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("reference/spec.md", None),
        ("reference/spec.md#overrides", None),
        ("https://example.invalid/x.md", None),
        ("reference/none.md", "leads nowhere"),
        ("reference/spec.md#none", "names no heading"),
        ("reference/errors.md#d-data-and-eval-sets", None),
        ("../README.md", "leaves docs/, which the site and the wheel do not"),
    ],
)
def test_a_broken_link_would_be_found(pages: Mapping[str, Any], repository: Path, link: str, fault: str | None) -> None:
    """The check sees a missing file, a missing heading and a way out of the documents, and leaves good links alone."""
    assert _fault(pages["docs/index.md"], link, pages, repository) == fault


def _real(pages: Mapping[str, Any]) -> set[str]:
    """The pages that are no stub: those below the four parts, and the index."""
    docs = {name.removeprefix("docs/") for name in pages if name.startswith("docs/")}
    return {name for name in docs if "/" in name} | {"index.md"}


def test_the_navigation_has_every_page_once(pages: Mapping[str, Any], site: Mapping[str, Any]) -> None:
    """mkdocs.yml names each page, no page twice, and nothing that is not there."""
    assert sorted(_leaves(site["nav"])) == sorted(_real(pages))


def test_the_index_lists_every_page_in_the_order_of_the_navigation(
    pages: Mapping[str, Any], site: Mapping[str, Any]
) -> None:
    """Who reads docs/index.md on GitHub finds what the site's navigation has, in the same order."""
    links = [link for link in pages["docs/index.md"].links() if not OUTSIDE.match(link)]
    assert ["index.md", *links] == list(_leaves(site["nav"]))


def test_a_page_that_moved_leaves_a_stub(pages: Mapping[str, Any], site: Mapping[str, Any]) -> None:
    """Each file beside index.md says that it has moved, links to where, and is left out of the navigation on purpose."""
    stubs = {name: page for name, page in pages.items() if re.fullmatch(r"docs/[\w-]+\.md", name)}
    del stubs["docs/index.md"]
    assert sorted(f"/{name.removeprefix('docs/')}" for name in stubs) == site["not_in_nav"].split()
    for name, page in stubs.items():
        targets = [link for link in page.links() if "/" in link]
        assert page.headings[0].endswith("(moved)"), name
        assert targets, name


def test_every_page_begins_with_its_title_and_one_sentence(pages: Mapping[str, Any]) -> None:
    """`runspec docs` lists both; a topic's name is unique in all parts."""
    names = [name.rpartition("/")[2] for name in _real(pages)]
    assert sorted(set(names)) == sorted(names)
    for name in _real(pages):
        title, blank, about, after, *_ = pages[f"docs/{name}"].text.split("\n")
        assert title.startswith("# "), name
        assert (blank, after) == ("", ""), name
        assert about.endswith((".", "?")), name
        assert len(about) <= 140, name


def test_every_page_that_the_project_names_is_there(pages: Mapping[str, Any], repository: Path) -> None:
    """A page named in code, in a schema or in another page is one of today's, not a stub."""
    real = {f"docs/{name}" for name in _real(pages)}
    folders = ("engine", "tests", "schemas", "templates", "runspecs", "benchmarks")
    files = [path for folder in folders for path in (repository / folder).rglob("*") if path.suffix in TEXTS]
    files += [page.path for page in pages.values()]
    named = {
        (path.relative_to(repository).as_posix(), name)
        for path in files
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > len(folders)
    assert sorted((where, name) for where, name in named if name not in real) == []
