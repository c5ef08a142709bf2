"""The table of a benchmark: figures beside a peer's and beside their bar.

In: facts. Out: lines of text, or one list of rows {name, value, unit, bar, peer} as JSON, and the
exit code that says whether every bar holds.

    facts = [Fact("decode", 1_590.0, "tokens/s", peer=1_145.5), Fact("ratio", 1.39, "x", least=2.0)]
    sys.exit(report(facts, as_json=False))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """One figure. Its bar is its lower or upper limit; ``peer`` is the same figure of another tool."""

    name: str
    value: float
    unit: str
    peer: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def bar(self) -> float | None:
        """The lower or upper bar."""
        return self.most if self.least is None else self.least

    @property
    def missed(self) -> bool:
        """Whether the figure is beyond its bar."""
        return (self.least is not None and self.value < self.least) or (
            self.most is not None and self.value > self.most
        )

    def row(self) -> dict[str, Any]:
        """As in ``--json``."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "bar": self.bar, "peer": self.peer}


def report(facts: Sequence[Fact], *, as_json: bool) -> int:
    """Prints all facts; 1 if a bar is missed, else 0."""
    if as_json:
        print(json.dumps([fact.row() for fact in facts], indent=2))
    else:
        show(facts)
    return exit_code(facts)


def show(facts: Sequence[Fact]) -> None:
    """The lines of a table: name, value, unit, and the peer's figure and the bar if there are any."""
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        peer = "" if fact.peer is None else f"  peer {fact.peer:,.4g}"
        sign = "at least" if fact.least is not None else "at most"
        bar = "" if fact.bar is None else f"  bar: {sign} {fact.bar:g}{', missed' if fact.missed else ''}"
        print(f"{fact.name:<{width}}  {fact.value:>12,.4g} {fact.unit}{peer}{bar}", flush=True)


def exit_code(facts: Iterable[Fact]) -> int:
    """1 if a bar is missed, else 0."""
    return int(any(fact.missed for fact in facts))
