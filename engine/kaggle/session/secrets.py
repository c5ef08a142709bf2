"""The token of the hub: where it is looked for, in which order, and what each failure of Kaggle's secret service means.

In: the environment of a session. Out: the token, or None with one :class:`Diagnostic` that says what to do. It is never printed.

The order: HF_TOKEN of the environment, the file of ``hf auth login``, then the platform's own: Kaggle's secret service, Colab's
userdata. Kaggle's protocol is one POST, which works from any process of the session. For a secret that was never made and for one
that is not attached to this notebook the service has the same answer, so one code stands for both and says how to tell them apart.

    found = find_token(os.environ, in_kernel=True)
    found.source, found.problem        # "Kaggle's secret service", None
"""

from __future__ import annotations

import importlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.errors import Diagnostic
from engine.kaggle.session.platform import name_of
from engine.protocol.hub_token import LABEL, token_file

ENDPOINT = "/requests/GetUserSecretByLabelRequest"
DEFAULT_BASE, BASE_VARIABLE, TOKEN_VARIABLE = "https://www.kaggle.com", "KAGGLE_URL_BASE", "KAGGLE_USER_SECRETS_TOKEN"
TIMEOUT_SECONDS, ATTEMPTS, DELAY_SECONDS = 10.0, 3, 1.0
MAX_BYTES = 1 << 20
NOT_FOUND, EXHAUSTED = 5, 8  # gRPC's numbers, in the service's answers
WHERE = "in the notebook's editor: Add-ons > Secrets"
HOW_WITHOUT = (
    "a model that needs no token: model: {kaggle: google/gemma/transformers/2b/3}, after one consent on its page"
)
Reason = Literal["absent", "refused", "down"]


class SecretError(Exception):
    """The service has given no secret: ``absent``, ``refused`` (this session may not ask) or ``down``."""

    def __init__(self, reason: Reason, says: str) -> None:
        super().__init__(says)
        self.reason: Reason = reason
        self.says = says


@dataclass(frozen=True, slots=True)
class Token:
    """``value`` is never shown; ``source`` says where it was found, ``problem`` why there is none."""

    value: str | None = field(repr=False)
    source: str = ""
    problem: Diagnostic | None = None


def find_token(environ: Mapping[str, str], *, in_kernel: bool) -> Token:
    """The first that is there, in the order above. ``in_kernel``: whether this is the notebook's own process, which alone Colab answers."""
    if value := environ.get(LABEL, "").strip():
        return Token(value, "in the environment")
    if token_file(environ).is_file():
        return Token(None, "saved by hf auth login")
    name = name_of(environ)
    if name == "kaggle":
        return _from_kaggle(environ)
    if name == "colab" and in_kernel:
        return _from_colab()
    return Token(None, problem=Diagnostic("G163", f"{LABEL} is not set", hint=f"export {LABEL}=… before Jupyter starts, or: hf auth login",
                                          severity="warning"))  # fmt: skip


def _from_kaggle(environ: Mapping[str, str]) -> Token:
    try:
        return Token(kaggle_secret(LABEL, environ), "Kaggle's secret service")
    except SecretError as error:
        return Token(None, problem=_explained(error))


def _explained(error: SecretError) -> Diagnostic:
    """The failures, each with its own code and cure."""
    if error.reason == "absent":
        return Diagnostic(
            "G160", f"Kaggle's secret service has no {LABEL} for this notebook: it was never made, or is not attached",
            hint=f"{WHERE}. Is {LABEL} in the list? Tick it: it is not attached (a push from outside detaches it).\n"
            f"Is it not in the list? Add it there: it was never made. Or use {HOW_WITHOUT}", severity="warning",
        )  # fmt: skip
    if error.reason == "refused":
        return Diagnostic(
            "G161", f"Kaggle's secret service does not let this session ask for {LABEL} ({error.says})",
            hint=f"start a new session of your own notebook, signed in. Or use {HOW_WITHOUT}", severity="warning",
        )  # fmt: skip
    return Diagnostic(
        "G162", f"Kaggle's secret service is down ({error.says}); whether {LABEL} is attached is not known",
        hint=f"run this cell again in some minutes. Or use {HOW_WITHOUT}", severity="warning",
    )  # fmt: skip


def kaggle_secret(label: str, environ: Mapping[str, str], wait: Callable[[float], None] = time.sleep) -> str:
    """Ask the service. Raises SecretError; an answer that says "busy" or none at all is asked for again."""
    token = environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise SecretError("refused", f"{TOKEN_VARIABLE} is not set")
    request = urllib.request.Request(  # noqa: S310 - the platform's own address
        (environ.get(BASE_VARIABLE) or DEFAULT_BASE).rstrip("/") + ENDPOINT,
        data=json.dumps({"Label": label}).encode(),
        headers={"Content-Type": "application/json", "X-Kaggle-Authorization": f"Bearer {token}"},
    )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _secret_in(_answer(request))
        except SecretError as error:
            if error.reason != "down" or attempt == ATTEMPTS:
                raise
            wait(DELAY_SECONDS * attempt)
    raise AssertionError("the last attempt returns or raises")


def _answer(request: urllib.request.Request) -> object:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return json.loads(response.read(MAX_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            reason: Reason = "refused" if error.code in (401, 403) else "down"
            raise SecretError(reason, f"HTTP {error.code}") from None
    except (OSError, ValueError) as error:  # no connection, no answer in time, no JSON
        raise SecretError("down", type(error).__name__) from None


def _secret_in(answer: object) -> str:
    """The secret of an answer; the answer itself is never part of a message."""
    if not isinstance(answer, dict):
        raise SecretError("down", "an answer of another form")
    result = answer.get("result")
    if answer.get("wasSuccessful") and isinstance(result, dict) and isinstance(result.get("secret"), str):
        return str(result["secret"]).strip()
    error = answer.get("error")
    number = error.get("code") if isinstance(error, dict) else None
    if number == NOT_FOUND or "No user secrets exist" in json.dumps(answer.get("errors")):
        raise SecretError("absent", "not found")
    raise SecretError("down", "too many requests" if number == EXHAUSTED else f"its error {number}")


def _from_colab() -> Token:
    """Colab's userdata answers only in the notebook's own process, where this is called."""
    try:
        userdata = importlib.import_module("google.colab.userdata")
        return Token(str(userdata.get(LABEL)).strip(), "Colab's secrets")
    except Exception as error:  # noqa: BLE001 - its own three kinds, of a module that is there in Colab only
        kind = type(error).__name__
    cure = {"SecretNotFoundError": f"add it: the key in the left margin, name {LABEL}",
            "NotebookAccessError": "grant access: the key in the left margin, the switch beside it"}  # fmt: skip
    return Token(None, problem=Diagnostic("G164", f"Colab gives no {LABEL} ({kind})", severity="warning",
                                          hint=cure.get(kind, "run this cell again, with the notebook open in the browser")))  # fmt: skip
