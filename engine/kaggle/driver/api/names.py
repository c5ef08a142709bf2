"""The name of a notebook on Kaggle: what the platform would change is an error here, with the right spelling.

In: a run_version, or what a person typed after ``--notebook``. Out: a :class:`NotebookName`. Kaggle makes the address of a notebook from
its title; where the two differ it makes a second notebook, or answers "Notebook not found".

    >>> name_for("m36_v1", None, "someone").title
    'runspec m36 v1'
    >>> slugify("My_Run (final)")
    'my-run-final'
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from engine.errors import InputInvalid

SHORTEST_TITLE, LONGEST_TITLE = 5, 50


@dataclass(frozen=True, slots=True)
class NotebookName:
    """``owner/slug`` and the title that Kaggle makes this slug of."""

    owner: str
    slug: str
    title: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.slug}"


def url_of(name: NotebookName) -> str:
    """The address of its page, without a version."""
    return f"https://www.kaggle.com/code/{name}"


def slugify(text: str) -> str:
    """As Kaggle makes an address of a title: accents off, lower case, one ``-`` for whatever is no letter or digit."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def name_for(run_version: str, typed: str | None, user: str) -> NotebookName:
    """The name of this run's notebook. Raises InputInvalid G202 where Kaggle would make another of it.

    ``typed``: SLUG, or OWNER/SLUG; None: ``runspec-`` and the run's own name.
    """
    if typed is None:
        slug = slugify(f"runspec {run_version}")[:LONGEST_TITLE].strip("-")
        return NotebookName(user, slug, slug.replace("-", " "))
    owner, _, slug = typed.rpartition("/")
    right = slugify(slug)
    if "/" in owner or owner != owner.strip() or not right:
        raise InputInvalid(
            "G202", f'"{typed}" is not the name of a notebook', hint="write OWNER/SLUG, say someone/my-run"
        )
    if right != slug:
        prefix = f"{owner}/" * bool(owner)
        raise InputInvalid("G202", f'Kaggle would change the name "{slug}" to "{right}"', hint=f"write {prefix}{right}")
    if not SHORTEST_TITLE <= len(slug) <= LONGEST_TITLE:
        limits = f"{SHORTEST_TITLE} to {LONGEST_TITLE}"
        raise InputInvalid("G202", f'the name "{slug}" has {len(slug)} characters, and Kaggle takes {limits}',
                           hint="choose another name: --notebook SLUG")  # fmt: skip
    return NotebookName(owner or user, slug, slug.replace("-", " "))


def named_version(word: str) -> tuple[NotebookName, int | None] | None:
    """Of ``OWNER/SLUG`` or ``OWNER/SLUG/VERSION``; None for a word of another form.

    >>> named_version("someone/my-run/3")
    (NotebookName(owner='someone', slug='my-run', title=''), 3)
    """
    match = re.fullmatch(r"([A-Za-z0-9][\w-]*)/([a-z0-9][a-z0-9-]*)(?:/v?(\d{1,9}))?", word)
    return (NotebookName(match[1], match[2], ""), int(match[3]) if match[3] else None) if match else None
