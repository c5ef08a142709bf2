"""What every part of the driver holds: the run, its story, the connection, the clock, the screen.

In: made once by a command. Out: :class:`Drive`, handed to each state's function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.pacing import Clock
from engine.kaggle.driver.request import Request
from engine.kaggle.driver.story import Story
from engine.runspec.model import Spec


@dataclass
class Drive:
    """``request``: what the person asked for on the command line."""

    spec: Spec
    request: Request
    story: Story
    kaggle: Kaggle
    clock: Clock
    note: Callable[[str], None]
