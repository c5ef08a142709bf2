"""``kaggle push``, ``status``, ``logs``, ``fetch``, ``run`` and ``run --on kaggle``: a run on Kaggle from this machine."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from engine.canonical import JsonObject
from engine.commands import Reply, columns, pick
from engine.commands.loading import is_spec, load, project_root
from engine.display.plain import make_console
from engine.errors import InputInvalid
from engine.kaggle.driver.accelerators import ACCELERATORS
from engine.kaggle.driver.api.logs import LogEvent, stream, until_now
from engine.kaggle.driver.api.names import NotebookName, named_version
from engine.kaggle.driver.door import connect, driving, fetch_witness
from engine.kaggle.driver.drive import EngineFacts
from engine.kaggle.driver.machine import begin, drive_on, fetch_now
from engine.kaggle.driver.request import PushRequest
from engine.kaggle.driver.standing import RunStanding, never_pushed, pushed_attempt, standing_of
from engine.kaggle.driver.story import State, read_story, stories
from engine.preflight import price
from engine.redact import redact
from engine.runspec.model import Spec
from engine.steps.registry import HANDLERS, handlers

PLATFORM = "kaggle"
_PUSHED = frozenset(get_args(State)) - {"planned", "preflight", "pushing", "continue"}


def push(arguments: Namespace) -> Reply:
    """Up to the version's number; what is under way already is told, not pushed again."""
    spec, request, note = _spec(arguments), _request(arguments), _note(arguments)
    with driving(spec, request, note, _facts(spec)) as drive:
        begin(drive)
        drive_on(drive, until=_PUSHED)
        return _reply(standing_of(drive.story, spec))


def run(arguments: Namespace) -> Reply:
    """Through as many sessions as the run needs, to verified evidence."""
    return run_there(_spec(arguments), _request(arguments), _note(arguments))


def run_there(spec: Spec, request: PushRequest, note: Callable[[str], None]) -> Reply:
    """The same for ``run --on kaggle``."""
    with driving(spec, request, note, _facts(spec)) as drive:
        begin(drive)
        drive_on(drive)
        return _reply(standing_of(drive.story, spec))


def run_on(arguments: Namespace) -> Reply:
    """``run --on``: ``kaggle``, or one of its machines."""
    machines = [name for name in ACCELERATORS if name.startswith(f"{PLATFORM}-")]
    pick("platform", arguments.on, [PLATFORM, *machines])
    target = arguments.on if arguments.on in machines else None
    request = PushRequest(typed=tuple(arguments.overrides), target=target, session_limit=arguments.session_limit)
    return run_there(_spec(arguments), request, _note(arguments))


def fetch(arguments: Namespace) -> Reply:
    """The output of the last version, where its session is over; of a complete run the evidence too."""
    named = named_version(arguments.run) if not is_spec(arguments.run) else None
    if named is not None:
        return _fetch_stranger(arguments, *named)
    if arguments.out is not None:
        raise InputInvalid("U103", "runspec kaggle fetch: --out is for a notebook that is named OWNER/NAME/VERSION",
                           hint="a run's output is kept in .runspec/kaggle/, and its evidence where the run-spec says")  # fmt: skip
    spec = _pushed_spec(arguments.run)
    with driving(spec, PushRequest(whole_output=arguments.all), _note(arguments), _facts(spec)) as drive:
        fetch_now(drive)
        return _reply(standing_of(drive.story, spec))


def _fetch_stranger(arguments: Namespace, name: NotebookName, version: int | None) -> Reply:
    """A notebook version of anybody's, as a witness for ``verify``."""
    out = Path(arguments.out) if arguments.out is not None else None
    fetched = fetch_witness(connect(_note(arguments), name.owner), name, version, out, whole=arguments.all)
    text = f"fetched   {fetched['folder']}/ ({len(fetched['files'])} files)\nverify    runspec verify EVIDENCE --witness {fetched['folder']}"
    return Reply({"ok": True, **fetched}, text)


def status(arguments: Namespace) -> Reply:
    """Of one run with the platform's word now; of all runs what is known here."""
    if arguments.run is None:
        root = project_root()
        known = [standing_of(read_story(root, name), None) for name in stories(root)]
        text = (
            columns([one.row for one in known])
            or "nothing of this project was pushed to Kaggle: runspec kaggle push SPEC"
        )
        return Reply({"ok": True, "runs": [one.document for one in known]}, text)
    spec = _pushed_spec(arguments.run)
    story = read_story(spec.root, spec.run_version)
    standing = standing_of(story, spec)
    kaggle = connect(_note(arguments), story.last.name.owner if story.last else None)
    return _reply(standing.asked(kaggle), exit_code=0)


def logs(arguments: Namespace) -> Reply:
    """The log of the last version; with --follow as it comes, on standard error with --json."""
    spec = _pushed_spec(arguments.run)
    attempt = pushed_attempt(read_story(spec.root, spec.run_version), spec.run_version)
    note = _note(arguments)
    kaggle = connect(note, attempt.name.owner)
    if arguments.follow:
        found = _noted(stream(kaggle, attempt.name, attempt.version), note)
    else:
        found = list(until_now(kaggle, attempt.name, attempt.version))
    text = redact("".join(event.data if event.data.endswith("\n") else f"{event.data}\n" for event in found))
    lines = text.splitlines()
    if arguments.tail is not None:
        lines = lines[-arguments.tail :] if arguments.tail else []
    document: JsonObject = {"ok": True, "run_version": spec.run_version, "version": attempt.version, "lines": lines}
    return Reply(document, "" if arguments.follow else "\n".join(lines))


def _noted(events: Iterable[LogEvent], note: Callable[[str], None]) -> list[LogEvent]:
    """Show each as it comes."""
    found = []
    for event in events:
        note(redact(event.data.rstrip("\n")))
        found.append(event)
    return found


def _spec(arguments: Namespace) -> Spec:
    return load(arguments.spec, arguments.overrides)[0]


def _pushed_spec(word: str) -> Spec:
    """The run-spec that a word names, or that the run of this name was pushed of, with its overrides then."""
    if is_spec(word):
        spec, _ = load(word)
        root, run_version = spec.root, spec.run_version
    else:
        root, run_version = project_root(), word
    last = read_story(root, run_version).last
    if last is None:
        raise never_pushed(run_version, stories(root))
    return load(str(root / last.facts["spec"]), last.facts["overrides"])[0]


def _request(arguments: Namespace) -> PushRequest:
    return PushRequest(
        typed=tuple(arguments.overrides),
        target=arguments.target,
        notebook=arguments.notebook,
        session_limit=arguments.session_limit,
        wheel_dataset=arguments.wheel_dataset,
        upload_data=arguments.upload_data,
        offline=arguments.offline,
        is_public=arguments.public,
        again=arguments.again,
    )


def _facts(spec: Spec) -> EngineFacts:
    return EngineFacts(HANDLERS.__contains__, lambda target: price(spec, handlers(), target)["time"])


def _note(arguments: Namespace) -> Callable[[str], None]:
    return make_console(quiet=arguments.quiet, plain=True).note


def _reply(standing: RunStanding, exit_code: int | None = None) -> Reply:
    return Reply(standing.document, standing.text, standing.exit_code if exit_code is None else exit_code)
