"""What a person asks of the driver on the command line.

In: the options of ``runspec kaggle push`` and ``run``. Out: one immutable value, which planning, preflight and the machine read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PushRequest:
    """The options of the command line. ``again``: a new push after an end; ``whole_output``: checkpoints are fetched too."""

    typed: tuple[str, ...] = ()  # the overrides
    target: str | None = None
    notebook: str | None = None
    session_limit: str | None = None
    wheel_dataset: str | None = None
    offline: bool = False
    is_public: bool = False
    again: bool = False
    whole_output: bool = False
