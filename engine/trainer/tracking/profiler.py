"""A profiler's window: a trace of a few train steps, by jax.profiler.

In: ``{start: N, steps: M}``. Out: a folder with the trace of train steps N to N + M - 1
(``plugins/profile/<time>/*.xplane.pb`` for TensorBoard's profiler and XProf, ``*.trace.json.gz`` for Perfetto), and the
event profiled{first, last, path}.

    window = ProfileWindow.of({"start": 20, "steps": 3}, last=100)      # raises InputInvalid T161 outside the run
    tracer = Tracer(window, folder, emit)
    tracer.pauses_after(19)             # True: the device must be idle when the trace starts or ends
    tracer.before(20), tracer.after(22)

The train steps run the same programs on the same numbers, so that profiling does not change the result. It does change
their seconds: their rows are marked and left out of percentiles. A run resumed inside the window traces the rest of it.
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
        """From the arguments of a run of ``last`` train steps. Raises InputInvalid T161."""
        if declared is None:
            return None
        window = cls(declared.start, declared.start + declared.steps - 1)
        if window.first < 1 or window.last < window.first or window.last > last:
            raise InputInvalid(
                "T161",
                f"profile declares train steps {window.first} to {window.last}; the training run has 1 to {last}",
                hint=f"profile.start + profile.steps can be {last + 1} at most"
                if window.last > last
                else "start and steps must be 1 or more",
            )
        return window


class Tracer:
    """Starts and stops the trace; without a window it does nothing."""

    def __init__(self, window: ProfileWindow | None, folder: Path, emit: Emit) -> None:
        self._window, self._folder, self._emit = window, folder, emit
        self._since: int | None = None  # the first train step of the running trace

    def pauses_after(self, train_step: int) -> bool:
        """Whether the device must be idle between this train step and the next."""
        return self._window is not None and train_step in (self._window.first - 1, self._window.last)

    def before(self, train_step: int) -> None:
        """Called before this train step, with the device idle."""
        window = self._window
        if window is None or self._since is not None or not window.first <= train_step <= window.last:
            return
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = (
            0  # tracing every Python call takes hundreds of megabytes and slows everything down
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._since = train_step

    def covers(self, train_step: int) -> bool:
        """Whether this train step is traced; called before :meth:`after`."""
        return self._since is not None and train_step >= self._since

    def after(self, train_step: int) -> None:
        """Called after this train step. At the window's end the trace is written."""
        if self._window is not None and train_step == self._window.last:
            self.stop(train_step)

    def stop(self, last: int) -> None:
        """End a running trace: at the window's end, or when training stops inside it."""
        if self._since is None:
            return
        jax.profiler.stop_trace()
        self._emit(Profiled(self._since, last, str(self._folder)))
        self._since = None
