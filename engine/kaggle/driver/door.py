"""The way in for commands: from a run-spec and the words that were typed to a :class:`Drive`, with the credentials named.

In: the environment. Out: a connection, or what is missing. Here alone the library is loaded, and only when the platform is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from engine.artifacts.store import Store
from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.extras import require
from engine.kaggle.driver.api.connection import Kaggle, sign_in
from engine.kaggle.driver.api.credentials import check_agreement, choose, logins_here
from engine.kaggle.driver.api.names import NotebookName
from engine.kaggle.driver.api.pacing import SystemClock, WaitingClock
from engine.kaggle.driver.api.refusals import explaining
from engine.kaggle.driver.api.wire import Wire
from engine.kaggle.driver.drive import Drive, EngineFacts
from engine.kaggle.driver.outputs import fetch_version, refuse_other_version
from engine.kaggle.driver.request import PushRequest
from engine.kaggle.driver.story import open_story
from engine.protocol.kaggle_api import ApiAddress, ForeignAddress, api_address
from engine.runspec.model import Spec

Note = Callable[[str], None]


def connect(
    note: Note, owner: str | None = None, environ: Mapping[str, str] | None = None, clock: WaitingClock | None = None
) -> Kaggle:
    """Signed in. Raises InputInvalid X101, G201, G203, G204, RemoteRefused G205 to G211.

    ``owner``: whose notebook it is, where that is known: of several kinds of credentials those of this user count.
    """
    environ, clock = os.environ if environ is None else environ, clock or SystemClock()
    try:
        address = api_address(environ)
    except ForeignAddress as error:
        raise InputInvalid("G201", str(error), hint=error.hint) from error
    logins = logins_here(environ)
    first = choose(logins, owner)
    require("kaggle", "Kaggle")
    wire = _wire(address)
    with explaining("your account", first):
        kaggle = sign_in(wire, first, clock, note)
    check_agreement(logins, kaggle.user, owner)
    where = "" if address.is_kaggle else f", at {address.base} instead of Kaggle"
    note(f"Kaggle: {kaggle.user}, credentials from {kaggle.login}{where}")
    return kaggle


def _wire(address: ApiAddress) -> Wire:
    client: Wire = import_module("engine.kaggle.driver.api.client").ApiClient(address)
    return client


@contextmanager
def driving(spec: Spec, request: PushRequest, note: Note, facts: EngineFacts) -> Iterator[Drive]:
    """One driver a run: raises LockBusy R106 where another has it."""
    with Store(spec.root).lock(f"kaggle-{spec.run_version}"):
        story = open_story(spec.root, spec.run_version)
        owner = request.notebook.partition("/")[0] if request.notebook and "/" in request.notebook else None
        if owner is None and story.last is not None:
            owner = story.last.name.owner
        kaggle = connect(note, owner)
        yield Drive(spec, request, story, kaggle, kaggle.clock, note, facts)


def fetch_witness(
    kaggle: Kaggle, name: NotebookName, version: int | None, out: Path | None, *, whole: bool
) -> JsonObject:
    """A version of anybody's notebook into a folder of its own (default: ``kaggle-OWNER-NAME-vN``, here).

    Raises InputInvalid G238 where the folder holds something else, RemoteRefused G205 to G211, G250, G251, G254.
    """
    with explaining(str(name), kaggle.login):
        version = version or kaggle.kernel(name).version
    folder = out or Path(f"kaggle-{name.owner}-{name.slug}-v{version}")
    refuse_other_version(folder, name, version)
    found = fetch_version(kaggle, name, version, folder, whole=whole)
    return {
        "folder": str(folder),
        "owner": name.owner,
        "slug": name.slug,
        "version": version,
        "files": dict(found.files),
    }
