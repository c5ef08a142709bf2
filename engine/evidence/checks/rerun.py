"""A part of a run, run again by the reader: which items are asked, and what came out.

In: the ids of the items, a seed. Out: the drawn ones; and :class:`Rerun`, the rows that came out (:mod:`engine.pipeline.rerun` makes
them; nothing here starts anything). The seed is drawn when the evidence is there already, so that its author cannot have known
which items would be asked again; a reader who has the seed asks the same ones.

    >>> draw(["q0", "q1", "q2", "q3"], seed=7, count=2)
    ['q0', 'q3']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.canonical import JsonObject, digest_json


@dataclass(frozen=True, slots=True)
class Again:
    """``rows`` as they came out; ``elsewhere``: how the machine or the libraries differ from the recorded ones, one phrase each."""

    rows: Sequence[JsonObject]
    elsewhere: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rerun:
    """What was run again. ``answers``: of the items that ``seed`` draws; ``losses``: of the first train steps. None: not asked for."""

    seed: int
    platform: str
    answers: Again | None = None
    losses: Again | None = None


def draw(ids: Sequence[str], seed: int, count: int) -> list[str]:
    """So many of the ids, in their order; all where there are no more."""
    drawn = set(sorted(ids, key=lambda id_: digest_json([seed, id_]))[:count])
    return [id_ for id_ in ids if id_ in drawn]
