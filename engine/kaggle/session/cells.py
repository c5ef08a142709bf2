"""What the cells of a notebook call: one method each, every one of which can be called again.

In: what the notebook was made with (:class:`Made`), the configuration cell's values. Out: readable lines, and the output folder. This
runs in the notebook's own kernel, with the standard library alone; each step of the run is a child process, a plain ``runspec run``.

    session = NotebookSession(engine, Made(spec="runspecs/m36.yaml", …))
    session.begin()
    session.setup()
    session.configure(SPEC, OVERRIDES, SESSION_LIMIT, EARLIER)
    session.stage("dataset")
    session.summary()
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import __version__
from engine.canonical import JsonObject, digest_text, write_atomic
from engine.errors import InputInvalid, RunFailed, RunspecError, render
from engine.kaggle.session.devices import probe
from engine.kaggle.session.edits import Edits, running_cell
from engine.kaggle.session.gated import is_gated
from engine.kaggle.session.limits import FILE as SESSION_FILE
from engine.kaggle.session.limits import SessionLimits, session_began
from engine.kaggle.session.machine import expected_of, set_up
from engine.kaggle.session.mounts import find_file, find_output, n_parts
from engine.kaggle.session.outcome import DEADLINE, INTERRUPTED, SessionOutcome, collect, state_of, write_outcome
from engine.kaggle.session.platform import image_date, place
from engine.kaggle.session.process import answer, stream
from engine.kaggle.session.secrets import Token, find_token
from engine.kaggle.session.stages import STAGES, last_steps
from engine.os_errors import hint_for
from engine.protocol.deadline import steady_seconds
from engine.protocol.hub_token import LABEL
from engine.redact import redact

ANSWER_SECONDS = 600.0
NONCE_VARIABLE = "RUNSPEC_KAGGLE_NONCE"
SESSION = "session"  # in the output folder: what the next session needs


@dataclass(frozen=True, slots=True)
class Made:
    """What a notebook was made with: the spec's path in the project, the digests, the machine it was planned for.

    ``cells``: name -> digest of each code cell; ``wheelhouse``: the dataset to install from, without the network; ``data_files``:
    (path in the project, name in ``data_dataset``, SHA-256) of files that were too large for the notebook.
    """

    spec: str
    run_version: str
    engine_sha256: str
    cells: Mapping[str, str]
    needs_token: bool
    hub_model: str | None = None
    expected: Mapping[str, object] | None = None
    nonce: str | None = None
    wheelhouse: str | None = None
    data_dataset: str | None = None
    data_files: Sequence[tuple[str, str, str]] = ()


class CellStopped(Exception):
    """The end of a cell, as a person reads it: IPython prints these lines, without a traceback."""

    def __init__(self, text: str) -> None:
        super().__init__(text.split("\n", maxsplit=1)[0])
        self._text = text

    def _render_traceback_(self) -> list[str]:
        return self._text.split("\n")


class NotebookSession:
    """One notebook in one kernel. ``show`` prints one line."""

    def __init__(self, engine: Path, made: Made, environ: Mapping[str, str] | None = None) -> None:
        self._engine, self._made = engine, made
        self._environ = dict(os.environ if environ is None else environ)
        self.place = place(self._environ)
        self.project = self.place.scratch / f"project-{made.run_version}"
        self._edits = Edits(made.cells)
        self._python: Path | None = None
        self._token = Token(None)
        self._overrides: list[str] = []
        self._stops: Mapping[str, str | None] | None = None
        self._limits: SessionLimits | None = None
        self._stopped = False  # at the session's limit: what comes after it is for the next session

    def show(self, line: str) -> None:
        """One line of the cell's output."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def begin(self) -> None:
        """Cell 1: where this is, the nonce, the token."""
        with_errors(self, "engine", self._begin)

    def setup(self) -> None:
        """Cell 2: the machine, the packages, the devices; all of it before anything long."""
        with_errors(self, "setup", self._setup)

    def configure(
        self, spec: str, overrides: Sequence[str], session_limit: str | None = None, earlier: str | None = None
    ) -> None:
        """Cell 3: what will run, checked and priced. ``earlier``: ``owner/slug`` whose mounted output the run continues from."""
        with_errors(self, "configuration", lambda: self._configure(spec, overrides, session_limit, earlier))

    def stage(self, name: str) -> None:
        """Cells 4 to 8: the steps of one kind."""
        with_errors(self, name, lambda: self._stage(name))

    def summary(self) -> None:
        """Cell 9: the rest of the steps, the result, the evidence and the package in the output folder."""
        with_errors(self, "summary", self._summary)

    def saw(self, name: str) -> None:
        """Note the text of the running cell."""
        if not self._edits.saw(name, running_cell(name)):
            self.show(
                f"note: this cell is not the generated one any more; {self.place.output / 'outcome.json'} will say so"
            )

    def ended(
        self, exit_code: int, *, finished: bool = False, package: str | None = None, recipe: JsonObject | None = None
    ) -> None:
        """Write the outcome."""
        made = self._made
        self.place.output.mkdir(parents=True, exist_ok=True)
        write_outcome(
            self.place.output,
            SessionOutcome(exit_code, state_of(exit_code, finished=finished), made.run_version, made.engine_sha256, self._edits.digest,
                    self._edits.edited, package, recipe),
        )  # fmt: skip

    def _begin(self) -> None:
        made, where = self._made, self.place
        built = f", image of {date}" if (date := image_date()) else ""
        self.show(
            f"runspec {__version__} for {made.run_version}, engine {made.engine_sha256[:12]}, on {where.name}{built}"
        )
        self.show(f"work in {where.scratch}, results in {where.output}")
        if made.nonce:
            self.show(f"runspec nonce: {made.nonce}")
        if made.needs_token:
            self._find_token()
        self._copy_data()

    def _copy_data(self) -> None:
        """The project's files that did not travel in the notebook, from their dataset. Raises InputInvalid G170, G173."""
        for path, name, sha256 in self._made.data_files:
            source = find_file(self.place.inputs, str(self._made.data_dataset), name, sha256)
            (self.project / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.project / path)
            self.show(f"data      {path} from {self._made.data_dataset}")

    def _find_token(self) -> None:
        self._token = find_token(self._environ, in_kernel=True)
        problem, model = self._token.problem, self._made.hub_model
        if problem is None:
            self.show(f"{LABEL}  found: {self._token.source}")
            return
        self.show(render(problem))
        if model is not None and is_gated(model, self._environ):
            raise RunFailed("G174", f"{model} is gated on the hub, and there is no token: the run would end at its download",
                            hint=problem.hint)  # fmt: skip

    def _setup(self) -> None:
        expected = expected_of(self._made.expected)
        self._python = set_up(self._engine, self.place, expected, self._made.wheelhouse, self.show)
        self.show(probe(self._python, self._child_environ(), expected))

    def _child_environ(self) -> dict[str, str]:
        """The environment of the engine: the engine that travelled in the notebook, plain lines, the token, the nonce."""
        environ = {
            **self._environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self._engine), self._environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
            "TERM": "dumb",
            "NO_COLOR": "1",
        }
        if self._python is not None and str(self._python) != sys.executable:
            environ.pop("TPU_LIBRARY_PATH", None)  # the image's libtpu, which would win over the one that fits
        if self._token.value:
            environ[LABEL] = self._token.value
        if self._made.nonce:
            environ[NONCE_VARIABLE] = self._made.nonce
        return environ

    def _words(self, *words: str) -> list[str]:
        """The command line of the engine. Raises RunFailed G158 before the cells that it needs."""
        if self._python is None:
            raise RunFailed("G158", "this cell needs the ones before it", hint="run the cells from the first one")
        return [str(self._python), "-m", "engine", *words]

    def _configure(self, spec: str, overrides: Sequence[str], limit: str | None, earlier: str | None) -> None:
        path = self.project / self._made.spec
        self._words()
        self._limits = self._limits_of(limit, earlier)
        (self.project / ".runspec").mkdir(parents=True, exist_ok=True)
        write_atomic(path, spec)
        self._overrides = list(overrides)
        self.show(f"run-spec  {self._made.spec}, sha256 {digest_text(spec)[:12]}")
        self.show(f"overrides {' '.join(overrides) or 'none'}")
        self.show(f"limit     {limit or 'none'}" + (f", continues from the output of {earlier}" if earlier else ""))
        plan = self._plan()
        self._stops = last_steps((str(step["id"]), str(step["uses"])) for step in plan["steps"])
        self._stopped = False
        if plan["disk"]["fits"] is False:
            raise RunFailed("G159", "the run needs more disk space than this session has: the plan above says how much",
                            hint="fewer checkpoints (keep_checkpoints), or a machine with a larger disk")  # fmt: skip

    def _limits_of(self, limit: str | None, earlier: str | None) -> SessionLimits:
        """Raises InputInvalid G170 for an output that is not mounted, G175 for a limit that is none, G176 for a name that is none."""
        if earlier and n_parts(earlier) not in (2, 3):
            raise InputInvalid(
                "G176", f'EARLIER: "{earlier}" is not the name of a notebook', hint='EARLIER = "OWNER/NAME", or None'
            )
        before = find_output(self.place.inputs, earlier, holds=SESSION_FILE) / SESSION if earlier else None
        limits = SessionLimits(
            limit, session_began(is_kaggle=self.place.name == "kaggle"), self.place.output / SESSION, before
        )
        limits.options(limits.began)
        return limits

    def _plan(self) -> JsonObject:
        """Show the plan and return it. Raises RunFailed G165 where the run-spec has errors, which are shown."""
        if self._run("plan", self._made.spec, *self._overrides):
            raise RunFailed(
                "G165",
                "the run-spec cannot run here: the lines above say why",
                hint="correct it in this cell, and run it again",
            )
        code, text, said = self._answer("plan", self._made.spec, *self._overrides, "--json")
        if code:
            raise RunFailed("G165", f"the plan ended with exit code {code}", hint=said)
        return dict(json.loads(text))

    def _run(self, *words: str) -> int:
        return stream(self._words(*words), self._child_environ(), self.project, self.show)

    def _answer(self, *words: str) -> tuple[int, str, str]:
        try:
            return answer(self._words(*words), self._child_environ(), self.project, ANSWER_SECONDS)
        except subprocess.SubprocessError as error:
            return 3, "", type(error).__name__

    def _configured(self) -> tuple[Mapping[str, str | None], SessionLimits]:
        """Raises RunFailed G158 before the configuration cell."""
        if self._stops is None or self._limits is None:
            raise RunFailed("G158", "this cell needs the configuration", hint="run the cells from the first one")
        return self._stops, self._limits

    def _stage(self, name: str) -> None:
        stop = self._configured()[0][name]
        if self._stopped:
            self.show("left for the next session")
        elif stop is None:
            self.show(f"this run-spec has no step of the kind {STAGES[name]} here")
        else:
            self._go("--to", stop)

    def _go(self, *words: str) -> int:
        """``runspec run``, and the outcome where it does not end well. Raises RunFailed G166, G167."""
        _, limits = self._configured()
        now, before = steady_seconds(), limits.standing()
        code = self._run("run", self._made.spec, *self._overrides, *words, *limits.options(now))
        if code == 0:
            return code
        recipe = limits.recipe(before)
        if code == InputInvalid.exit_code and recipe is not None and limits.is_used_up(now):
            code = DEADLINE  # the rest of the session is too short for this step, not the session
        self.ended(code, recipe=recipe)
        if code == INTERRUPTED:
            raise interrupted()
        if code != DEADLINE:
            raise RunFailed("G166", f"runspec run ended with exit code {code}: the lines above say why",
                            hint="correct what they name, then run this cell again: what was done is kept")  # fmt: skip
        self._stopped = True
        return code

    def _summary(self) -> None:
        self._configured()
        if self._stopped or self._go() == DEADLINE:
            self.show(f"the session limit was reached: {self.place.output / SESSION} has what the next session needs")
            self.show(
                'to continue on Kaggle: Add input > Notebooks > this one, write EARLIER = "OWNER/NAME" in the configuration, run all cells'
            )
            return
        code, text, said = self._answer("run", self._made.spec, *self._overrides, "--json")
        if code:
            self.ended(code)
            raise RunFailed("G166", f"runspec run ended with exit code {code}", hint=said)
        document = json.loads(text)
        name = collect(self.place.output, self.project / document["evidence"], self.project / document["package"])
        self._configured()[1].clear()
        self.ended(0, finished=True, package=name)
        self.show(f"kept      {self.place.output}: evidence/, {name}, outcome.json")


def with_errors(session: NotebookSession, name: str, work: Callable[[], None]) -> None:
    """A cell's work; an error ends the cell with its text, and without a traceback, whose colours are escape sequences."""
    try:
        session.saw(name)
        work()
    except KeyboardInterrupt:
        raise CellStopped(str(interrupted())) from None
    except Exception as error:  # noqa: BLE001 - the last resort for unforeseen exceptions
        known = error if isinstance(error, RunspecError) else _unforeseen(error)
        _note_failure(session, known)
        raise CellStopped(str(known)) from None


def interrupted() -> RunFailed:
    """G167."""
    return RunFailed("G167", "interrupted", hint="run the cell again: it resumes")


def _unforeseen(error: Exception) -> RunFailed:
    """G171 of the system (a full disk, a folder that cannot be written), G172 a fault of ours, with its place."""
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return RunFailed(
            "G171", f"{file}{error.strerror}", hint=hint_for(error.errno) or "correct it, then run the cell again"
        )
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    return RunFailed(
        "G172",
        f"internal error at {place}: {redact(repr(error))}",
        hint="this is a fault in runspec: please report these lines",
    )


def _note_failure(session: NotebookSession, error: RunspecError) -> None:
    """The outcome of an error of the session itself; the engine's own has been noted with its exit code."""
    if error.code not in ("G166", "G167"):
        with contextlib.suppress(OSError):  # the output folder may be what is broken
            session.ended(error.exit_code)
