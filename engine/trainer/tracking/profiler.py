"""A profiler's window: a trace of a few train steps and nothing else, by jax.profiler.

What goes in: ``{start: N, steps: M}``. What comes out: a folder with the trace of train steps N to N + M - 1
(``plugins/profile/<time>/*.xplane.pb`` for TensorBoard's profiler and XProf, ``*.trace.json.gz`` for Perfetto), and the
event profiled{first, last, path}.

    window = ProfileWindow.of({"start": 20, "steps": 3}, last=100)      # raises InputInvalid T161 outside the training
    tracer = Tracer(window, folder, emit)
    tracer.pauses_after(19)             # True: nothing may be under way on the device when the trace starts or ends
    tracer.before(20), tracer.after(22)

The train steps are the same programs on the same numbers, so that nothing that is trained changes. Their seconds do:
their rows are marked, and no percentile counts them. A process that goes on inside the window traces what is left of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax

from engine.errors import InputInvalid
from engine.protocol.events.training import Profiled
from engine.protocol.train_args import ProfileArgs
from engine.trainer.process import Emit


@dataclass(frozen=True, slots=True)
class ProfileWindow:
    """Train steps ``first`` to ``last``, both included."""

    first: int
    last: int

    @classmethod
    def of(cls, declared: ProfileArgs | None, *, last: int) -> ProfileWindow | None:
        """From the arguments of a training of ``last`` train steps. Raises InputInvalid T161."""
        if declared is None:
            return None
        window = cls(declared.start, declared.start + declared.steps - 1)
        if window.first < 1 or window.last < window.first or window.last > last:
            raise InputInvalid(
                "T161",
                f"profile asks for train steps {window.first} to {window.last}; the training has 1 to {last}",
                hint=f"profile.start + profile.steps is at most {last + 1}"
                if window.last > last
                else "start and steps are 1 or more",
            )
        return window


class Tracer:
    """Starts and stops the trace; does nothing without a window."""

    def __init__(self, window: ProfileWindow | None, folder: Path, emit: Emit) -> None:
        self._window, self._folder, self._emit = window, folder, emit
        self._since: int | None = None  # the first train step of the running trace

    def pauses_after(self, train_step: int) -> bool:
        """Whether the device has to be idle between this train step and the next."""
        return self._window is not None and train_step in (self._window.first - 1, self._window.last)

    def before(self, train_step: int) -> None:
        """This train step comes next and nothing is under way."""
        window = self._window
        if window is None or self._since is not None or not window.first <= train_step <= window.last:
            return
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of every function is hundreds of megabytes and slows all down
        self._folder.mkdir(parents=True, exist_ok=True)
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._since = train_step

    def covers(self, train_step: int) -> bool:
        """Whether this train step ran under the trace; asked before :meth:`after`."""
        return self._since is not None and train_step >= self._since

    def after(self, train_step: int) -> None:
        """This train step is done. At the window's end the trace is written."""
        if self._window is not None and train_step == self._window.last:
            self.stop(train_step)

    def stop(self, last: int) -> None:
        """End a trace that is running: at the window's end, or where the training stops inside it."""
        if self._since is None:
            return
        jax.profiler.stop_trace()
        self._emit(Profiled(self._since, last, str(self._folder)))
        self._since = None
