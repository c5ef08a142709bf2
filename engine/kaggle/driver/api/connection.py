"""The platform as the driver sees it: each call with its time, its repetitions, its fresh token, its answer as a value.

In: a :class:`Wire` and a :class:`KaggleLogin`. Out: values of :mod:`engine.kaggle.driver.api.answers`, or an error a person can act on. What is safe to
repeat is repeated while the platform is down or asks for patience; SaveKernel and the making of datasets are sent once.

    kaggle = Kaggle(wire, login, SystemClock(), note)
    kaggle.status(name, 3).phase
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from engine.canonical import JsonMapping
from engine.errors import RemoteRefused
from engine.kaggle.driver.api.answers import (
    Kernel,
    OutputFile,
    Quota,
    Refusal,
    SessionStatus,
    read_kernel,
    read_outputs,
    read_quota,
    read_quota_end,
    read_status,
    rows_of,
    short,
    text_of,
)
from engine.kaggle.driver.api.names import NotebookName
from engine.kaggle.driver.api.pacing import CALLS, CALLS_AT_MOST, WaitingClock
from engine.kaggle.driver.api.wire import REPEATABLE, Method, Wire
from engine.protocol.kaggle_logins import KaggleLogin

PAGE, MOST_PAGES = 20, 200
# As `kaggle kernels list --mine --sort-by dateRun` asks.
OWN_BY_LAST_RUN = {
    "group": "PROFILE", "sort_by": "DATE_RUN", "user": "", "language": "all", "kernel_type": "all", "output_type": "all", "dataset": "",
    "competition": "", "parent_kernel": "", "search": "", "page": 1, "page_size": PAGE, "page_token": "",
}  # fmt: skip
TOLD_FROM_SECONDS = 5.0  # shorter waits are not worth a line
RENEW = "make a new one: on kaggle.com, Settings > API; then give it as before"


class Kaggle:
    """One connection, for one user."""

    def __init__(self, wire: Wire, login: KaggleLogin, clock: WaitingClock, note: Callable[[str], None]) -> None:
        self.wire, self.login, self.clock, self.note = wire, login, clock, note

    @property
    def user(self) -> str:
        """Whose credentials these are."""
        return self.login.user or ""

    def ask(self, method: Method, **fields: object) -> JsonMapping:
        """One answer. Raises Refusal where there is none, after repetitions where these are safe."""
        for number in range(CALLS_AT_MOST):
            try:
                return self._once(method, fields)
            except Refusal as refusal:
                if method not in REPEATABLE or not refusal.is_passing or number == CALLS_AT_MOST - 1:
                    raise
                self._wait(number, refusal)
        raise AssertionError("the last round returns or raises")

    def _wait(self, number: int, refusal: Refusal) -> None:
        seconds = max(CALLS.seconds(number, self.clock.jitter()), refusal.wait or 0.0)
        if seconds >= TOLD_FROM_SECONDS:
            self.note(f"Kaggle: {self.login.hide(str(refusal))}; asked again in {seconds:.0f} s")
        self.clock.sleep(seconds)

    def _once(self, method: Method, fields: Mapping[str, object]) -> JsonMapping:
        login = self.fresh_login()
        try:
            return self.wire.ask(method, fields, login)
        except Refusal as refusal:
            if refusal.kind != "credentials" or login.kind != "oauth":
                raise
        self.login = renewed(self.wire, login, self.clock.now())
        return self.wire.ask(method, fields, self.login)

    def fresh_login(self) -> KaggleLogin:
        """The credentials; an access token that has ended, or is about to, is renewed first."""
        if self.login.has_expired(self.clock.now()):
            self.login = renewed(self.wire, self.login, self.clock.now())
        return self.login

    def kernel(self, name: NotebookName, version: int | None = None) -> Kernel:
        """A notebook as it is saved; the source is that of ``version``."""
        label = {"version_label": f"v{version}"} if version else {}
        return read_kernel(self.ask("get_kernel", user_name=name.owner, kernel_slug=name.slug, **label))

    def newest_version(self, name: NotebookName) -> int:
        """The number of the newest version; 0 where there is no notebook of that name yet, or none that this user may see."""
        try:
            return self.kernel(name).version
        except Refusal as refusal:
            if refusal.kind in ("missing", "forbidden"):
                return 0
            raise

    def status(self, name: NotebookName, version: int) -> SessionStatus:
        """Of one version's session."""
        return self.status_of(name.owner, name.slug, version)

    def status_of(self, owner: str, slug: str, version: int) -> SessionStatus:
        """The same by the parts of the name."""
        return read_status(self.ask("session_status", user_name=owner, kernel_slug=slug, version_label=f"v{version}"))

    def outputs(self, name: NotebookName, version: int) -> tuple[list[OutputFile], str]:
        """The files with their addresses, and the stored log: one string, JSON of {stream_name, time, data}."""
        files: list[OutputFile] = []
        log = ""
        for page in self._pages("session_output", name, version):
            files += read_outputs(page)
            log = log or text_of(page, "log")
        return files, log

    def sizes(self, name: NotebookName, version: int) -> dict[str, int]:
        """Name of a file -> its bytes: the only place where the platform says sizes."""
        found: dict[str, int] = {}
        for page in self._pages("list_files", name, version):
            found |= {
                str(row["name"]): int(row["size"])
                for row in rows_of(page, "files")
                if isinstance(row.get("name"), str) and str(row.get("size")).isdigit()
            }
        return found

    def _pages(self, method: Method, name: NotebookName, version: int) -> Iterator[JsonMapping]:
        token, seen = "", set[str]()
        for _ in range(MOST_PAGES):
            page = self.ask(method, user_name=name.owner, kernel_slug=name.slug, page_size=PAGE, page_token=token,
                            version_label=f"v{version}")  # fmt: skip
            yield page
            token = text_of(page, "nextPageToken")
            if not token:
                return
            if token in seen:
                raise Refusal("unreadable", 200, "the list of files begins again instead of ending")
            seen.add(token)
        raise Refusal("unreadable", 200, f"the list of files has more than {MOST_PAGES} pages")

    def quota(self) -> dict[str, Quota]:
        """Kind of accelerator -> what this week has of it."""
        return read_quota(self.ask("quota"))

    def quota_end(self) -> str:
        """When the week's quota begins again; "" where that is not told."""
        return read_quota_end(self.ask("quota"))

    def recent_notebooks(self) -> list[JsonMapping]:
        """This user's notebooks, the one that ran last first."""
        answer = self.ask("list_kernels", **OWN_BY_LAST_RUN)
        return rows_of(answer, "kernels")


def sign_in(wire: Wire, login: KaggleLogin, clock: WaitingClock, note: Callable[[str], None]) -> Kaggle:
    """Learn whose credentials these are. Raises RemoteRefused G205 where the platform refuses them; no other kind is tried."""
    kaggle = Kaggle(wire, login, clock, note)
    if login.kind == "token":
        answer = _asked(kaggle, login)
        user = answer.get("username")
        if answer.get("active") is False or not isinstance(user, str) or not user:
            raise _refused(login, "it has expired, or was revoked")
        kaggle.login = replace(login, user=user)
    elif login.kind == "oauth" and (login.user is None or login.has_expired(clock.now())):
        kaggle.login = renewed(wire, login, clock.now())
    return kaggle


def _asked(kaggle: Kaggle, login: KaggleLogin) -> JsonMapping:
    try:
        return kaggle.ask("introspect", token=login.secret)
    except Refusal as refusal:
        reason = {
            "credentials": "it is not known, or has expired (401)",
            "forbidden": "it may not be used for this (403)",
            "missing": "it is no token of Kaggle's (404)",
            "rejected": f"it is no token of Kaggle's ({refusal.status})",
        }.get(refusal.kind)
        if reason is None:
            raise
        raise _refused(login, reason) from refusal


def _refused(login: KaggleLogin, reason: str) -> RemoteRefused:
    return RemoteRefused("G205", f"Kaggle refuses the token from {login}: {reason}",
                         hint=f"{RENEW}\nother credentials of this machine are used where this one is removed or unset")  # fmt: skip


def renewed(wire: Wire, login: KaggleLogin, now: float) -> KaggleLogin:
    """A new access token for the OAuth login. The file that ``kaggle auth login`` wrote stays as it is."""
    fields = {"refresh_token": login.refresh, "api_version": "API_VERSION_V1"}
    try:
        answer = wire.ask("mint_token", fields, None)
    except Refusal as refusal:
        if refusal.is_passing:
            raise
        raise RemoteRefused("G205", f"Kaggle does not renew the login of {login}: {login.hide(str(refusal))}",
                            hint="log in again: kaggle auth login") from refusal  # fmt: skip
    token, seconds, user = answer.get("token"), answer.get("expiresIn"), answer.get("userName")
    if not isinstance(token, str) or not token or not isinstance(seconds, int):
        raise RemoteRefused("G205", f"Kaggle does not renew the login of {login}: {short(str(sorted(answer)))}",
                            hint="log in again: kaggle auth login")  # fmt: skip
    return replace(login, secret=token, expires_at=now + seconds, user=str(user or login.user or "") or None)
