"""``python child.py FOLDER EVENT before|after without|with|real WORD…``: a driver in a process of its own, killed at one of its transitions.

It dies by SIGKILL before, or right after, the event of this number, or the first of this name, is written down; 0 is never. Nothing waits,
and nothing is packed unless ``with``. ``real``: a real notebook, a real clock, everything as it is.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

from engine.cli import main
from engine.kaggle.driver import machine
from engine.kaggle.driver.story import PushStory
from tests.kaggle.driver.real_project import be_quick
from tests.kaggle.driver.stand_ins import QuickClock, done_at_once, install


def die() -> None:
    """As the kernel ends a process that took too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(event: str, moment: str) -> None:
    """Patch the story."""
    append, counted = PushStory.append, iter(range(1, 1000))

    def dying(self: PushStory, state: str, **facts: object) -> None:
        here = event in (str(next(counted)), state)
        if here and moment == "before":
            die()
        append(self, state, **facts)  # type: ignore[arg-type]
        if here:
            die()

    PushStory.append = dying  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    folder, at, when, evidence, *words = sys.argv[1:]
    os.chdir(folder)
    patch = pytest.MonkeyPatch()
    if evidence == "real":
        be_quick(patch)
    else:
        install(patch, QuickClock())
    if evidence == "without":
        patch.setattr(machine, "complete", done_at_once)
        patch.setitem(machine.ACTIONS, "completing", done_at_once)  # type: ignore[index]
    kill_at(at, when)
    sys.exit(main(words))
