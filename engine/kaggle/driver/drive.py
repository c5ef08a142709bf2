"""What every part of the driver holds: the run, its story, the connection, the clock, the screen.

In: made once by a command. Out: :class:`Drive`, handed to each state's function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.canonical import JsonMapping
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.pacing import WaitingClock
from engine.kaggle.driver.request import PushRequest
from engine.kaggle.driver.story import PushStory
from engine.runspec.model import Spec


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What parts of higher floors know: whether the engine has a kind of step; of a target, the ``time`` part of the plan."""

    is_built_in: Callable[[str], bool]
    plan_time: Callable[[str], JsonMapping]


@dataclass
class Drive:
    """``request``: what the person asked for on the command line."""

    spec: Spec
    request: PushRequest
    story: PushStory
    kaggle: Kaggle
    clock: WaitingClock
    note: Callable[[str], None]
    facts: EngineFacts
