"""Every way in which the platform may fail, by name: what it does, where, and the sentence of the facts that it is made after.

A failure is a middleware: it gets the call and the way onwards, and answers itself, changes the world first, or changes the
answer. The modules beside this one hold them; :data:`FAILURES` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.web.messages import Go, Reply

Act: TypeAlias = Callable[..., Reply]
ANYTHING = "*"


@dataclass(frozen=True)
class Failure:
    """``on``: the operations that it meets unless a test names others; ``fact``: the words that it is made after, as recorded."""

    name: str
    on: tuple[str, ...]
    fact: str
    act: Act

    @property
    def does(self) -> str:
        """In one sentence."""
        return (self.act.__doc__ or "").split("\n")[0]


class Collection(dict[str, Failure]):
    """Failures of one module, each added by a decorator."""

    def add(self, *on: str, fact: str) -> Callable[[Act], Act]:
        """Add the function under its own name."""

        def keep(act: Act) -> Act:
            self[act.__name__] = Failure(act.__name__, on, fact, act)
            return act

        return keep


@dataclass
class Armed:
    """A failure that a test has asked for. ``times``: how often (None: always); ``after``: how many calls it lets by first."""

    failure: Failure
    on: tuple[str, ...]
    times: int | None
    after: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    met: int = 0
    hits: int = 0

    def takes(self, operation: str) -> bool:
        """Whether it meets this call; counts."""
        if operation not in self.on and ANYTHING not in self.on:
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.met += 1
        if self.met <= self.after:
            return False
        self.hits += 1
        return True

    def act(self, call: Call, go: Go) -> Reply:
        """What it does."""
        return self.failure.act(call, go, **self.arguments)
