"""A session attaches a model to itself while it runs, as kagglehub does, and waits for the mount: not for ever.

In: a model, and the variables of a session. Out: whether its folder is there by now.

    attach(source, environ, retry)

The request goes to the session's own proxy, with the session's own tokens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from engine.errors import RemoteRefused, Where
from engine.protocol.kaggle_models import found_model
from engine.trainer.hub.errors import status_of
from engine.trainer.hub.kaggle.source import KaggleSource
from engine.trainer.hub.kaggle.transport import opened, request
from engine.trainer.hub.retry_policy import POLL_SECONDS, RetryPolicy

PROXY, TOKEN, PROXY_TOKEN = "KAGGLE_DATA_PROXY_URL", "KAGGLE_USER_SECRETS_TOKEN", "KAGGLE_DATA_PROXY_TOKEN"
METHOD = "kaggle-jwt-handler/AttachDatasourceUsingJwtRequest"
MOUNT_SECONDS = 180.0  # gigabytes are mounted, not copied
LARGEST_ANSWER = 1 << 20


def attach(source: KaggleSource, environ: Mapping[str, str], retry: RetryPolicy) -> bool:
    """False where this is not a session that can, where the proxy refuses, or no mount comes in time.

    Raises RemoteRefused M412 (the licence is not accepted), Interrupted M408.
    """
    if not all(environ.get(name) for name in (PROXY, TOKEN)):
        return False
    try:
        retry.call(lambda: _ask(source, environ))
    except (ConnectionError, TimeoutError, ValueError):
        return False
    except Exception as error:
        if status_of(error) is None:
            raise
        if status_of(error) == 403:
            raise _no_consent(source) from None
        return False
    until = time.monotonic() + MOUNT_SECONDS
    while found_model(source.model, environ) is None:
        retry.check_stop()
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _ask(source: KaggleSource, environ: Mapping[str, str]) -> None:
    """Raises Answered, ConnectionError, TimeoutError, ValueError where nothing will be mounted."""
    model = source.model
    reference = {"OwnerSlug": model.owner, "ModelSlug": model.model, "Framework": model.framework,
                 "InstanceSlug": model.variation, "VersionNumber": str(model.version)}  # fmt: skip
    headers = {"Content-Type": "application/json", "X-Kaggle-Authorization": f"Bearer {environ[TOKEN]}",
               "X-KAGGLE-PROXY-DATA": environ.get(PROXY_TOKEN, "")}  # fmt: skip
    body = json.dumps({"modelRef": reference}).encode()
    with opened(request(f"{environ[PROXY].rstrip('/')}/{METHOD}", headers, body)) as response:
        answer = json.loads(response.read(LARGEST_ANSWER))
    if not isinstance(answer, dict) or not (answer.get("result") or {}).get("mountSlug"):
        raise ValueError("nothing is mounted")


def _no_consent(source: KaggleSource) -> RemoteRefused:
    return RemoteRefused(
        "M412",
        f"Kaggle does not attach {source.id} to this session (HTTP 403): the account has not accepted its licence, or may not see it",
        where=Where(file=source.id),
        hint=f"open {source.model.page}, signed in to that account, and accept the licence there; it is done once",
    )
