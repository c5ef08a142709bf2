"""Step handlers: what a ``uses:`` of the run-spec can name.

A handler is one object (a module-level ``HANDLER``) with the attributes of :class:`Handler`. It is a thin
adapter: it reads its inputs, calls one island (``data``, ``scoring``, ``trainer``), writes into ``ctx.out``
and returns facts. It never publishes, locks, journals or prints: the runner does that for all of them.

A new step is one module here, one schema under ``schemas/steps/`` and one line in
:data:`engine.steps.registry.HANDLERS`; one in another package is named under the entry point
group ``runspec.steps``. docs/how-to/extend has the playbook.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.artifacts.store import Artifact
from engine.runspec.model import Spec, StepSpec
from engine.trainer_process.host import Host

if TYPE_CHECKING:
    from engine.protocol.deadline import Deadline
    from engine.protocol.events.base import Event
    from engine.protocol.sessions import RunSession
    from engine.trainer_process.carried import Carried


@dataclass(frozen=True, slots=True)
class StepContext:
    """The input of a handler.

    ``inputs``  artifact type -> published artifact, for every type in ``takes``
    ``ahead``   kind -> effective arguments of the later steps named in ``looks_ahead``
    ``out``     an empty folder; its content becomes the artifact when ``run`` returns
    ``work``    a folder that survives a kill: the next attempt of the same fingerprint gets it again
    ``cache``   a folder shared by all runs of the project; losing it costs only time
    ``emit``    live events for the display: those of engine.protocol.events, or a mapping ``{"event": "my_event", ...}`` of
                your own; they are not recorded
    ``note``    one line for the log (and the console)
    ``stop_at`` of a re-run (``verify --rerun-steps``): the train step that is the last to be asked for; None: all. A handler
                may do more
    ``stopping`` true after a stop request (Ctrl-C, SIGTERM, the session's limit): finish cleanly and raise ``Interrupted``
    ``session``  the attempt of the run that this is; ``deadline``: when it has to end, where it has a limit
    """

    spec: Spec
    step: StepSpec
    inputs: Mapping[str, Artifact]
    ahead: Mapping[str, Mapping[str, Any]]
    out: Path
    work: Path
    cache: Path
    emit: Callable[[Event | Mapping[str, Any]], None]
    note: Callable[[str], None]
    stopping: Callable[[], bool]
    stop_at: int | None = None
    session: RunSession | None = None
    deadline: Deadline | None = None

    @property
    def args(self) -> Mapping[str, Any]:
        """The step's effective arguments."""
        return self.step.args

    @property
    def host(self) -> Host:
        """For :func:`engine.trainer_process.process.run_trainer`."""
        kill_at = self.deadline.kill_at if self.deadline is not None else None
        return Host(self.work, self.spec.root, self.emit, self.stopping, kill_at=kill_at)


@dataclass(frozen=True, slots=True)
class StepResult:
    """``facts``: JSON values that the evidence, ``show`` and later steps may read."""

    facts: Mapping[str, Any] = field(default_factory=dict)


class Handler(Protocol):
    """The complete interface of a step."""

    @property
    def kind(self) -> str:
        """Its name under ``uses:``."""

    @property
    def version(self) -> int:
        """Part of the fingerprint: raise it when the same inputs would give another result."""

    @property
    def title(self) -> str:
        """Half a sentence for ``runspec steps`` and the progress display."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Artifact types it needs; each must be made by an earlier step."""

    @property
    def makes(self) -> str:
        """The artifact type it publishes."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files that must be in ``out`` when ``run`` returns."""

    @property
    def measured(self) -> tuple[str, ...]:
        """Of ``files``: JSON and JSONL in which seconds and tokens_per_second are measurements, not results."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Sections of the spec that change its result: of model, dataset, eval_set, device."""

    @property
    def looks_ahead(self) -> tuple[str, ...]:
        """Kinds of later steps whose arguments it must know (the smoke run proves them)."""

    @property
    def needs_extra(self) -> str | None:
        """The optional dependency group it needs at run time, say ``train``; None for the light core."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Draft-07 schema of ``with``: an object with ``additionalProperties: false``."""

    def environment(self) -> Mapping[str, str]:
        """What can change its result besides the inputs, such as library versions. Must be cheap: no imports."""

    def run(self, ctx: StepContext) -> StepResult:
        """Do the work. Raises a RunspecError; anything else counts as an internal error of the step."""


@dataclass(frozen=True, slots=True)
class FunctionHandler:
    """A :class:`Handler` made of plain values and one function. All built-in kinds are of this class.

    ``libraries`` are the distributions whose version can change the result: they enter the fingerprint. ``carries`` names the
    files of ``work`` that a later session needs, given that folder and the arguments; without it an unfinished step starts over there.

    >>> handler = FunctionHandler(
    ...     kind="greet", version=1, title="says hello", makes="greeting", files=("greeting.txt",),
    ...     schema={"type": "object", "additionalProperties": False, "properties": {}},
    ...     function=lambda ctx: StepResult({"greeting": "hello"}),
    ... )
    >>> handler.environment()
    {}
    """

    kind: str
    version: int
    title: str
    makes: str
    schema: Mapping[str, Any]
    function: Callable[[StepContext], StepResult]
    takes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    looks_ahead: tuple[str, ...] = ()
    needs_extra: str | None = None
    libraries: tuple[str, ...] = ()
    carries: Callable[[Path, Mapping[str, Any]], Carried | None] | None = None

    def environment(self) -> Mapping[str, str]:
        """Installed versions of ``libraries``, read from their metadata: nothing is imported."""
        return {name: installed_version(name) for name in self.libraries}

    def run(self, ctx: StepContext) -> StepResult:
        """Call the function."""
        return self.function(ctx)


@functools.cache
def installed_version(distribution: str) -> str:
    """The version of an installed distribution, or the word ``absent``; read once in a process."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"
