"""A page as elements, attributes and text, as a browser without a screen would have it."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "path", "rect", "circle"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each ``pre`` and of each ``dd`` of an item, and what is closed out of order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.misnested: list[str] = []
        self.pres: list[str] = []
        self.answers: list[str] = []
        self.text = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.pres.append("")
        if tag == "dd" and "li" in self.open:
            self.answers.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += " " * (tag in ("td", "th", "li", "dt", "dd", "p"))
        if not self.open or self.open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "pre" in self.open:
            self.pres[-1] += data
        if "dd" in self.open and "li" in self.open:
            self.answers[-1] += data

    def shown(self) -> str:
        return " ".join(self.text.split())

    def classes(self) -> Counter[str]:
        return Counter(name for _, attrs in self.elements for name in (attrs.get("class") or "").split())
