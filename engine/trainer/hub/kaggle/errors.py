"""What a person reads where a model does not come from Kaggle: 401, 403 and 404 are three errors, each with what to do.

In: an exception of a fetch. Out: a RunspecError with the model's name and the HTTP status; never a header, a signed address or the server's text.
"""

from __future__ import annotations

from engine.errors import InputInvalid, RemoteRefused, RunspecError, Where
from engine.protocol.kaggle_api import API_VARIABLE, ForeignAddress
from engine.protocol.kaggle_logins import THREE_WAYS, KaggleLogin, UnusableLogin
from engine.trainer.hub.errors import FULL_DISK, RETRYABLE_STATUS, disk_full, is_unreachable, status_of
from engine.trainer.hub.kaggle.rest import KaggleApi
from engine.trainer.hub.kaggle.source import KaggleSource


def explain(error: Exception, source: KaggleSource, api: KaggleApi) -> RunspecError:
    """The error for an exception. Asks for the newest version where this one does not exist."""
    status, where = status_of(error), Where(file=source.id)
    if isinstance(error, (UnusableLogin, ForeignAddress)):
        return InputInvalid("M415" if isinstance(error, UnusableLogin) else "M416", str(error), hint=error.hint)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return disk_full(source)
    if status == 401 or (status == 403 and api.login is None):
        return _nobody(source, api.login, status)
    if status == 403:
        return RemoteRefused(
            "M412",
            f"Kaggle refuses {source.id} (HTTP 403): the account of {api.login and api.login.source} has not accepted its licence, or may not see it",
            where=where,
            hint=f"open {source.model.page}, signed in to that account, and accept the licence there; it is done once",
        )
    if status == 404:
        return _unknown(source, api)
    if is_unreachable(error):
        return RemoteRefused(
            "M403",
            f"Kaggle cannot be reached ({type(error).__name__}), and {source.id} is not complete in the cache",
            where=where,
            hint="connect to the network, or fetch it elsewhere and give model.path\nwhat has been fetched so far is kept",
        )
    return _failed(error, source, status)


def _nobody(source: KaggleSource, login: KaggleLogin | None, status: int) -> RunspecError:
    if login is None:
        message = f"Kaggle refuses {source.id} (HTTP {status}): there are no credentials on this machine"
        hint = f"give this machine credentials of Kaggle, {THREE_WAYS}\nand accept the licence once, at {source.model.page}"
    else:
        message = f"Kaggle refuses the credentials from {login.source} (HTTP {status}): mistyped, expired or revoked"
        hint = "replace them: on kaggle.com, Settings > API; others of this machine are used where these are removed or unset"
    return RemoteRefused("M411", message, where=Where(file=source.id), hint=hint)


def _unknown(source: KaggleSource, api: KaggleApi) -> RunspecError:
    try:
        newest = api.newest(source.model)
    except Exception:  # noqa: BLE001 - the message is complete without it
        newest = 0
    model = source.model
    if 0 < newest < model.version:
        message = f"Kaggle has no version {model.version} of {source.id.rpartition('/')[0]}"
        hint = f"its newest is {newest}: kaggle: {source.id.rpartition('/')[0]}/{newest}"
    else:
        message = f"Kaggle has no {source.id}, or the account may not see it (HTTP 404)"
        hint = f"compare it with the variations and versions at {model.page}"
    return InputInvalid("M413", message, where=Where(file=source.id), hint=hint)


def _failed(error: Exception, source: KaggleSource, status: int | None) -> RunspecError:
    where = Where(file=source.id)
    if isinstance(error, OSError) and status is None and error.errno is not None:
        return RemoteRefused("M405", f"fetching {source.id} failed: the cache cannot be used: {error.strerror}", where=where,
                             hint=f"give this user the right to write there, or set {source.cache_variable} to another folder")  # fmt: skip
    reason = f"HTTP {status}" if status is not None else f"the answer is not Kaggle's: {type(error).__name__}"
    hint = f"check what is between this machine and Kaggle (a proxy, a login page, {API_VARIABLE})"
    if status in RETRYABLE_STATUS:
        hint = "Kaggle is busy or down: run again later, it resumes where it stopped"
    return RemoteRefused("M405", f"fetching {source.id} failed ({reason})", where=where, hint=hint)


def not_mounted(source: KaggleSource) -> RunspecError:
    """M410: a session without the mount, and without credentials to fetch it by."""
    model = source.model
    return InputInvalid(
        "M410",
        f"{source.id} is not mounted in this session",
        where=Where(file=source.id),
        hint=f"in the editor: Add Input > Models, {model.owner}/{model.model}, framework {model.framework}, variation {model.variation}, "
        f"version {model.version};\na pushed notebook names it under model_sources (runspec kaggle does)",
    )


def damaged(source: KaggleSource, names: list[str], folder: str) -> RunspecError:
    """M406: files of the cache have changed since the engine fetched them, and Kaggle cannot be asked."""
    return RemoteRefused(
        "M406",
        f"{', '.join(names)} of {source.id}: changed in the cache since it was fetched, and Kaggle does not give it again",
        where=Where(file=folder),
        hint="run once with access to Kaggle: the changed files are then fetched again",
    )


def bad_archive(source: KaggleSource, what: str) -> RunspecError:
    """M414: the archive of a version is not what it should be."""
    return RemoteRefused(
        "M414",
        f"the archive of {source.id} cannot be used: {what}",
        where=Where(file=source.id),
        hint="it has been removed; run again to fetch it. If it happens again, fetch the model elsewhere and give model.path",
    )
