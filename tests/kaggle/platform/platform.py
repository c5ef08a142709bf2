"""A Kaggle on loopback, for tests.

    with Platform(tmp_path) as kaggle:
        kaggle.script(Script(files={"evidence/run.json": "{}"}, log=["hello"], queued_polls=1))
        kaggle.fail("rate_limited", times=2, on="SaveKernel")
        ...  # a driver against kaggle.api_url with kaggle.token
        assert [one.operation for one in kaggle.requests][:1] == ["IntrospectToken"]

Real HTTP, real files, a real clock that a test can move. What it answers is what the real client was recorded with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.kaggle.platform import client
from tests.kaggle.platform.api import accounts, datasets, downloads, in_session, kernels, logs, models
from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.failures.catalog import FAILURES
from tests.kaggle.platform.failures.table import ANYTHING, Armed
from tests.kaggle.platform.web.messages import ApiError, Go, Incoming, Recorded, Reply
from tests.kaggle.platform.web.recording import recorded
from tests.kaggle.platform.web.server import LoopbackServer
from tests.kaggle.platform.world.clock import Clock
from tests.kaggle.platform.world.files import Files, stored_files
from tests.kaggle.platform.world.kernels import Kernel, KernelVersion
from tests.kaggle.platform.world.quota import Quota
from tests.kaggle.platform.world.sessions import Session
from tests.kaggle.platform.world.sources import Dataset, Model, model_ref
from tests.kaggle.platform.world.world import SessionKind, World

HANDLERS: Handlers = {
    **kernels.HANDLERS,
    **datasets.HANDLERS,
    **models.HANDLERS,
    **accounts.HANDLERS,
    **downloads.HANDLERS,
    **logs.HANDLERS,
    **in_session.HANDLERS,
}
LOOK_SECONDS = 0.01


class PlatformBroke(AssertionError):
    """The platform itself failed, or a client reached for another host: the test that used it proves nothing."""


@dataclass(frozen=True)
class _Served:
    reply: Reply
    failures: tuple[str, ...]


class Platform:
    """The server and the world behind it; see the module for its use."""

    def __init__(self, folder: Path, *, user: str = "someone", clock: Clock | None = None, **options: Any) -> None:
        self.clock = clock or Clock()
        self.world = World(folder, self.clock, **options)
        self.user = user
        self.requests: list[Recorded] = []
        self._armed: list[Armed] = []
        self._server = LoopbackServer(self._answer, self.clock)
        self._server.closing = self.world.closing
        self.world.url = self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.api_url = f"{self.url}/api/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK_SECONDS,), name="loopback-kaggle")
        self.add_user(user)
        self.token = self.world.accounts.token(user)
        self.key = self.world.accounts.key(user)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.world.close()
        self._server.stop()
        self._thread.join()
        if kind is None and self._server.crashes:
            raise PlatformBroke(f"the platform failed: {self._server.crashes[0]!r}") from self._server.crashes[0]
        if kind is None and self._server.strangers:
            raise PlatformBroke(f"a client reached for other hosts: {self._server.strangers}")

    # what a test sets up --------------------------------------------------------------------------------

    def add_user(self, name: str) -> None:
        """One more user."""
        self.world.accounts.add_user(name)

    def oauth(self, *, seconds: float = 12 * 3600) -> dict[str, Any]:
        """What credentials.json has after `kaggle auth login`; ``seconds=-600``: a token that expired ten minutes ago."""
        return self.world.accounts.oauth(self.user, seconds=seconds)

    def script(self, *kinds: SessionKind, kernel: str | None = None) -> None:
        """What becomes of the next pushes, of this kernel or of any: one :class:`Script` or :class:`RealKernel` each, the last one for all after."""
        self.world.session_kinds += [(kernel, kind) for kind in kinds]

    def fail(
        self,
        name: str,
        /,
        *,
        times: int | None = None,
        on: str | tuple[str, ...] = (),
        after: int = 0,
        **arguments: Any,
    ) -> Armed:
        """From now on this failure happens: ``times`` times (None: until :meth:`heal`), after so many calls, on these operations."""
        failure = FAILURES[name]
        where = ((on,) if isinstance(on, str) else on) or failure.on
        unknown = set(where) - {*HANDLERS, ANYTHING}
        if unknown:
            raise KeyError(f"no such operation: {sorted(unknown)}; there are {sorted(HANDLERS)}")
        armed = Armed(failure, where, times, after, arguments)
        with self.world.lock:
            self._armed.append(armed)
        return armed

    def heal(self, name: str | None = None) -> None:
        """The failure of this name is over; all of them without one."""
        with self.world.lock:
            self._armed = [armed for armed in self._armed if name not in (None, armed.failure.name)]

    def add_dataset(self, ref: str, files: Files, *, private: bool = True) -> Dataset:
        """A dataset that is there already."""
        owner, slug = ref.split("/")
        dataset = Dataset(owner, slug, slug, private, [stored_files(files, self.clock.now())], self.clock.now())
        self.world.datasets[ref] = dataset
        return dataset

    def add_model(self, ref: str, files: Files, *, gated: bool = False, consents: tuple[str, ...] = ()) -> Model:
        """One version of a model's variation: ``google/gemma/transformers/2b/3``."""
        owner, slug, framework, variation, version = model_ref(ref)
        entries = stored_files(files, self.clock.now())
        model = Model(owner, slug, framework, variation, version or 1, entries, gated, set(consents))
        self.world.models.append(model)
        return model

    def add_competition(self, slug: str, files: Files) -> None:
        """A competition's data."""
        self.world.competitions[slug] = stored_files(files, self.clock.now())

    def add_secret(self, label: str, value: str, *, attach_to: str | None = None) -> None:
        """A user secret; attached to a kernel where one is named. A push detaches it again (``push_detaches_secrets``)."""
        self.world.user_secrets.setdefault(self.user, {})[label] = value
        self.world.accounts.issued.add(value)
        if attach_to is not None:
            self.kernels[attach_to].attached_secrets.add(label)

    # what a test looks at -------------------------------------------------------------------------------

    @property
    def kernels(self) -> Mapping[str, Kernel]:
        """``owner/slug`` -> kernel."""
        return self.world.kernels

    @property
    def quota(self) -> Quota:
        """Seconds allowed and used."""
        return self.world.quota

    @property
    def issued_secrets(self) -> frozenset[str]:
        """Every secret value that was ever given out: none of them may be found anywhere."""
        return frozenset(self.world.accounts.issued)

    def version(self, ref: str) -> KernelVersion:
        """``owner/slug`` (the newest) or ``owner/slug/N``."""
        owner, slug, *number = ref.split("/")
        return self.kernels[f"{owner}/{slug}"].version(int(number[0]) if number else None)

    def session(self, ref: str) -> Session:
        """The session of a version; a version that was only saved has none."""
        session = self.version(ref).session
        assert session is not None, f"{ref} was saved and not run"
        return session

    def wait(self, ref: str, seconds: float = 60.0) -> str:
        """Wait (in real time) until the session is over; its state then, or when the time is up."""
        session, until = self.session(ref), time.monotonic() + seconds
        while time.monotonic() < until:
            with self.world.lock:
                if session.is_over:
                    break
            time.sleep(LOOK_SECONDS)
        with self.world.lock:
            return session.state

    def client_env(self, home: Path, **variables: str) -> dict[str, str]:
        """The environment in which the real `kaggle` command talks to this platform and to nothing else."""
        return client.environment(self.url, home, self.token, variables)

    # serving --------------------------------------------------------------------------------------------

    def _answer(self, incoming: Incoming) -> Reply:
        served = self._serve(Call(incoming, self.world))
        with self.world.lock:
            self.requests.append(recorded(incoming, served.reply, served.failures))
        return served.reply

    def _serve(self, call: Call) -> _Served:
        with self.world.lock:
            armed = [one for one in self._armed if one.takes(call.incoming.operation)]
        go: Go = lambda: self._handle(call)  # noqa: E731 - wrapped below
        for one in reversed(armed):
            go = _wrapped(one, call, go)
        return _Served(_answered(go), tuple(one.failure.name for one in armed))

    def _handle(self, call: Call) -> Reply:
        handler = HANDLERS.get(call.incoming.operation)
        if handler is None:
            raise ApiError(404, "Not found")
        with self.world.lock:
            return handler(call)


def _answered(go: Go) -> Reply:
    try:
        return go()
    except ApiError as error:
        return error.reply()


def _wrapped(armed: Armed, call: Call, go: Go) -> Go:
    return lambda: armed.act(call, lambda: _answered(go))
