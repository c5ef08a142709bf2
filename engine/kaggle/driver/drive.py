"""What every part of the driver holds: the run, its story, the connection, the clock, the screen.

In: made once by a command. Out: :class:`Drive`, handed to each state's function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.pacing import WaitingClock
from engine.kaggle.driver.request import PushRequest
from engine.kaggle.driver.story import PushStory
from engine.runspec.model import Spec


@dataclass
class Drive:
    """``request``: what the person asked for on the command line; ``is_built_in``: of a kind of step, whether the engine has it."""

    spec: Spec
    request: PushRequest
    story: PushStory
    kaggle: Kaggle
    clock: WaitingClock
    note: Callable[[str], None]
    is_built_in: Callable[[str], bool]
