"""Everything the platform knows, behind one lock: users, kernels, sessions, sources, blobs, signed links, quota.

The rules of a push are in `world.pushing`, what a request may ask in `api`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from tests.kaggle.platform.session.scripted import Script
from tests.kaggle.platform.web.messages import ApiError
from tests.kaggle.platform.world.accounts import Accounts
from tests.kaggle.platform.world.clock import Clock
from tests.kaggle.platform.world.files import StoredFile
from tests.kaggle.platform.world.kernels import Kernel, KernelVersion
from tests.kaggle.platform.world.quota import GPU, TPU, Machine, Quota
from tests.kaggle.platform.world.sessions import COMPLETE, Session
from tests.kaggle.platform.world.sources import Dataset, Model

LINK_SECONDS = 3600


class SessionKind(Protocol):
    """What becomes of a version: a script or a real kernel."""

    def begin(self, number: int, version: KernelVersion, world: World) -> Session:
        """Start it."""


@dataclass
class Blob:
    """An upload: its token, its declared name and length, and what arrived."""

    token: str
    name: str
    length: int
    content: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Everything is here."""
        return len(self.content) == self.length


@dataclass
class World:
    """The platform's state. ``layouts``: how sources are mounted, "new" and "old"; ``folder``: where sessions live."""

    folder: Path
    clock: Clock
    url: str = ""
    layouts: tuple[str, ...] = ("new", "old")
    push_detaches_secrets: bool = True
    dataset_seconds: float = 0.0
    forced_machine: Machine | None = None
    stream_idle_seconds: float = 30.0
    kernels: dict[str, Kernel] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    competitions: dict[str, list[StoredFile]] = field(default_factory=dict)
    user_secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, tuple[StoredFile, datetime]] = field(default_factory=dict)
    passes: dict[str, KernelVersion] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    closing: threading.Event = field(default_factory=threading.Event)
    session_kinds: list[tuple[str | None, SessionKind]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.clock)
        self.quota = Quota(self.clock)
        self._numbers = iter(range(77, 1_000_000))

    # kernels -----------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """For a kernel or a session."""
        return next(self._numbers)

    def visible(self, user: str | None, owner: str, slug: str) -> Kernel:
        """A kernel that this user may see; a wrong slug and a private one look the same."""
        kernel = self.kernels.get(f"{owner}/{slug}")
        if kernel is None or (kernel.is_private and kernel.owner != user):
            raise ApiError(403, "Permission 'kernels.get' was denied")
        return kernel

    def versions(self) -> Iterator[KernelVersion]:
        """All of all kernels."""
        return (version for kernel in self.kernels.values() for version in kernel.versions)

    def begin(self, version: KernelVersion) -> None:
        """Give a version its session: the first kind that is meant for its kernel, else for any; the last one is kept."""
        own = [entry for entry in self.session_kinds if entry[0] == version.kernel.ref]
        meant = own or [entry for entry in self.session_kinds if entry[0] is None]
        kind: SessionKind = meant[0][1] if meant else Script()
        if len(meant) > 1:
            self.session_kinds.remove(meant[0])
        version.session = kind.begin(self.next_number(), version, self)

    def under_way(self, kind: str, user: str) -> int:
        """How many of the user's sessions of this kind are queued or running."""
        found = (
            version for version in self.versions() if version.kernel.owner == user and version.machine.kind == kind
        )
        return sum(1 for version in found if version.session and not version.session.is_over)

    def used(self, user: str) -> dict[str, float]:
        """Seconds used this week, by kind."""
        self.quota.refresh()
        week_began = self.quota.refreshes_at - timedelta(days=7)
        total = dict(self.quota.used)
        for version in self.versions():
            kind, session = version.machine.kind, version.session
            counts = kind in (GPU, TPU) and version.kernel.owner == user and session and session.queued_at >= week_began
            if counts and session:
                total[kind] += session.run_seconds
        return total

    def latest_output(self, ref: str) -> Sequence[StoredFile] | None:
        """Of ``owner/slug`` or ``owner/slug/N``: the output of the newest complete version, or of that one. None: there is none."""
        owner, slug, *number = ref.split("/")
        kernel = self.kernels.get(f"{owner}/{slug}")
        versions = reversed(kernel.versions) if kernel else iter(())
        for version in versions:
            if number and str(version.number) != number[0]:
                continue
            if version.session and version.session.state == COMPLETE:
                return version.session.output()
        return None

    # links and secrets -------------------------------------------------------------------------------

    def link(self, origin: str, file: StoredFile) -> str:
        """A signed address of a file, good for an hour."""
        signature = secrets.token_hex(16)
        self.accounts.issued.add(signature)
        self.links[signature] = (file, self.clock.now() + timedelta(seconds=LINK_SECONDS))
        return f"{origin}/dl/{file.name.rsplit('/', 1)[-1]}?sig={signature}"

    def pass_for(self, version: KernelVersion) -> str:
        """What a session of this version shows to the secrets service (``KAGGLE_USER_SECRETS_TOKEN``)."""
        made = self.accounts.secret("session")
        self.passes[made] = version
        return made

    def model(self, owner: str, slug: str, framework: str, variation: str, version: int | None) -> Model | None:
        """A version of a variation, the newest where none is named."""
        key = (owner, slug, framework, variation)
        found = [one for one in self.models if (one.owner, one.slug, one.framework, one.variation) == key]
        wanted = [one for one in found if version in (None, one.version)]
        return max(wanted, key=lambda one: one.version, default=None)

    def close(self) -> None:
        """End what still runs."""
        self.closing.set()
        for version in self.versions():
            if version.session:
                version.session.close()
