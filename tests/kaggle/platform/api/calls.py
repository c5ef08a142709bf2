"""One call of the API: the request, who asks, the world it is asked of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from tests.kaggle.platform.web.messages import Incoming, Json, Reply
from tests.kaggle.platform.world.accounts import Identity
from tests.kaggle.platform.world.world import World


@dataclass(frozen=True)
class Call:
    """What a handler gets."""

    incoming: Incoming
    world: World

    @cached_property
    def identity(self) -> Identity:
        """Who asks; 401 for a credential that is not valid."""
        return self.world.accounts.identity(self.incoming.headers.get("authorization"))

    @property
    def user(self) -> str | None:
        """The name; None for anonymous."""
        return self.identity.user

    @cached_property
    def body(self) -> Json:
        """The request's JSON."""
        return self.incoming.json


Handlers: TypeAlias = Mapping[str, Callable[[Call], Reply]]
