"""Errors of the hub as ours: the code, the message, and what to type.

In: an exception of huggingface_hub or of the HTTP layer below it, distinguished by the names of its classes. Out: a
RunspecError with the id, the revision and the HTTP status: never a header, an address with a query, the server's own
text, or the exception itself.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from engine.errors import InputInvalid, RemoteRefused, RunFailed, RunspecError, Where, did_you_mean
from engine.protocol.hub_token import ON_KAGGLE
from engine.trainer.hub.client import Client, Repository, Source

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RETRYABLE_STATUS = (408, 429, 500, 502, 503, 504)
RETRYABLE_KINDS = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError", "ChunkedEncodingError"})
SHOWN_BRANCHES = 20


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a response; None without one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_unreachable(error: BaseException) -> bool:
    """Whether there was no response at all, as opposed to a refusal; offline mode counts too."""
    if status_of(error) is not None:
        return False
    return isinstance(error, ConnectionError | TimeoutError) or bool(_kinds(error) & RETRYABLE_KINDS)


def is_temporary(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if "OfflineModeIsEnabled" in _kinds(error):
        return False
    return is_unreachable(error) or status_of(error) in RETRYABLE_STATUS


def reason_of(error: BaseException, host: str = "the hub") -> str:
    """A few words for an event."""
    status = status_of(error)
    return f"{host} answers HTTP {status}" if status is not None else f"the connection failed ({type(error).__name__})"


def explain(error: Exception, repository: Repository, client: Client) -> RunspecError:
    """The error that a person reads. Requests the branches if the revision is unknown."""
    kinds, status, where = _kinds(error), status_of(error), Where(file=repository.id)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return disk_full(repository)
    if "RevisionNotFoundError" in kinds:
        return unknown_revision(repository, branches(repository, client))
    if "GatedRepoError" in kinds:
        return _gated(repository, client, status)
    if "RepositoryNotFoundError" in kinds or "HFValidationError" in kinds:
        return _unknown_repository(repository, client, status)
    if status in (401, 403):
        return _refused(repository, client, status)
    if client.has_token() and (isinstance(error, UnicodeEncodeError) or "LocalProtocolError" in kinds):
        return RemoteRefused("M401", f"{repository.at} cannot be fetched: HF_TOKEN has characters that no token has", where=where, hint="copy the token again, without spaces or line breaks")  # fmt: skip
    if "OfflineModeIsEnabled" in kinds:
        return RemoteRefused("M403", f"the hub is switched off (HF_HUB_OFFLINE), and {repository.at} is not complete "
                             "in the cache", where=where,
                             hint=f"unset HF_HUB_OFFLINE once to fetch it{_or_a_path(repository)}")  # fmt: skip
    if is_unreachable(error):
        return RemoteRefused("M403", f"the hub cannot be reached ({type(error).__name__}), and {repository.at} is not "
                             "complete in the cache", where=where,
                             hint=f"connect to the network, on Kaggle: Settings > Internet{_or_a_path(repository)}\n"
                             "what has been fetched so far is kept")  # fmt: skip
    return _failed(error, repository, status)


def _or_a_path(repository: Repository) -> str:
    return ", or fetch it elsewhere and give " + ("model.path" if repository.kind == "model" else "dataset.path")


def _failed(error: Exception, repository: Repository, status: int | None) -> RunspecError:
    where = Where(file=repository.id)
    if isinstance(error, OSError) and status is None and error.errno is not None:
        reason = f"the cache cannot be used: {error.strerror}"
        return RemoteRefused("M405", f"fetching {repository.at} failed: {reason}", where=where,
                             hint="give this user the right to write there, or set HF_HOME to another folder")  # fmt: skip
    reason = f"HTTP {status}" if status is not None else f"the response is not a hub's: {type(error).__name__}"
    hint = "check HF_ENDPOINT, and what is between this machine and the hub (a proxy, a login page)"
    if status in RETRYABLE_STATUS:
        hint = "the hub is busy or down: run again later, it resumes where it stopped"
    return RemoteRefused("M405", f"fetching {repository.at} failed ({reason})", where=where, hint=hint)


def _page(repository: Repository, client: Client) -> str:
    folder = "datasets/" if repository.kind == "dataset" else ""
    return f"{client.address().rstrip('/')}/{folder}{repository.id}"


def _set_token(client: Client) -> str:
    return (
        f"make a token that may read it at {client.address().rstrip('/')}/settings/tokens,\n"
        f"then set it: export HF_TOKEN=…   ({ON_KAGGLE})"
    )


def _gated(repository: Repository, client: Client, status: int | None) -> RunspecError:
    page, where = _page(repository, client), Where(file=repository.id)
    if not client.has_token():
        return RemoteRefused("M401", f"the hub refuses {repository.at} (HTTP {status}): it is gated, and no token is set",
                             where=where, hint=f"accept the licence at {page}, signed in,\n{_set_token(client)}")  # fmt: skip
    return RemoteRefused(
        "M401",
        f"the hub refuses {repository.at} (HTTP {status}): it is gated, and the account of HF_TOKEN has no access yet",
        where=where,
        hint=f"accept the licence at {page}, signed in to the account that the token belongs to;\n"
        "a fine-grained token also needs the permission to read gated repositories",
    )


def _refused(repository: Repository, client: Client, status: int) -> RunspecError:
    where = Where(file=repository.id)
    if not client.has_token():
        return RemoteRefused("M401", f"the hub refuses {repository.at} (HTTP {status}): no token is set", where=where,
                             hint=_set_token(client))  # fmt: skip
    reason = "the token in HF_TOKEN is not valid (mistyped, expired or revoked)"
    if status == 403:
        reason = "the token in HF_TOKEN may not read it"
    return RemoteRefused("M401", f"the hub refuses {repository.at} (HTTP {status}): {reason}", where=where,
                         hint=_set_token(client))  # fmt: skip


def _unknown_repository(repository: Repository, client: Client, status: int | None) -> RunspecError:
    unknown = f"the hub has no {repository.kind} {repository.id!r}"
    http = f" (HTTP {status})" if status is not None else ""
    if client.has_token():
        message, hint = f"{unknown}, or the account of HF_TOKEN may not see it{http}", f"check {repository.id_key}"
    else:
        message = f"{unknown}, or it is private{http}"
        hint = f"check {repository.id_key}; for a private one: export HF_TOKEN=…   ({ON_KAGGLE})"
    return InputInvalid("M402", message, where=Where(file=repository.id), hint=hint)


def branches(repository: Repository, client: Client) -> list[str]:
    """The branches and tags; none if the request fails: the message is complete without them."""
    try:
        return client.branches(repository)
    except Exception:  # noqa: BLE001
        return []


def unknown_revision(repository: Repository, existing: Sequence[str]) -> RunspecError:
    """M402, with the branches and tags that exist."""
    lines = []
    near = did_you_mean(repository.revision or "", existing)
    if near is not None:
        lines.append(f'did you mean "{near}"?')
    if existing:
        more = f" and {len(existing) - SHOWN_BRANCHES} more" if len(existing) > SHOWN_BRANCHES else ""
        lines.append(f"it has: {', '.join(existing[:SHOWN_BRANCHES])}{more}")
    return InputInvalid(
        "M402",
        f"{repository.id} has no revision {repository.revision!r}",
        where=Where(file=repository.id),
        hint="\n".join(lines) or f"check {repository.revision_key}",
    )


def wrong_digest(repository: Source, name: str, expected: str, found: str, size: int) -> RunspecError:
    """M406: the received bytes are not what the hub lists."""
    return RemoteRefused(
        "M406",
        f"{name} of {repository.at} arrived damaged: {size} bytes with digest {found[:12]}…, {repository.host} lists "
        f"{expected[:12]}…",
        where=Where(file=repository.id),
        hint="the damaged file has been deleted; run again to fetch it. If it happens again, something between this "
        f"machine and {repository.host} (a proxy, a mirror) changes files",
    )


def wrong_size(source: Source, name: str, expected: int, found: int) -> RunspecError:
    """M406: what is sent is not the listed file: an error page, another version."""
    return RemoteRefused(
        "M406",
        f"{name} of {source.at} is sent with {found} bytes, {source.host} lists {expected}",
        where=Where(file=source.id),
        hint="run again to fetch it. If it happens again, something between this "
        f"machine and {source.host} (a proxy, a login page) answers in its place",
    )


def damaged_in_cache(repository: Repository, names: Sequence[str], folder: str) -> RunspecError:
    """M406: files of an earlier download are damaged, and the hub cannot be reached."""
    return RemoteRefused(
        "M406",
        f"{', '.join(names)} of {repository.at}: damaged in the cache, and the hub cannot be reached to fetch it again",
        where=Where(file=folder),
        hint="run once with access to the hub: the damaged files are then fetched again",
    )


def disk_full(repository: Source, need: int | None = None, free: int | None = None, folder: str = "") -> RunspecError:
    """M407: before anything is fetched (with the numbers), or in the middle of a fetch."""
    if need is not None and free is not None:
        message = f"{repository.at} needs {need:,} more bytes of disk space, and {free:,} are free at {folder}"
    else:
        message = f"the disk is full while fetching {repository.at}"
    return RunFailed(
        "M407",
        message,
        where=Where(file=repository.id),
        hint=f"free some disk space, or set {repository.cache_variable} to a folder on a larger disk; what has been fetched is kept, "
        "and the next run resumes from there",
    )
