"""Errors of a request, without the request: it has the token in its headers.

folder = without_cause(lambda: job.model(), job.explained)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from engine.errors import RunspecError

Result = TypeVar("Result")


def without_cause(work: Callable[[], Result], explained: Callable[[Exception], RunspecError]) -> Result:
    """The result, or an error without the client's as its cause: that one contains the request, token included."""
    try:
        return work()
    except RunspecError as error:
        failure = error
    # The client library's HTTP layer has changed three times: its errors are distinguished by class name.
    except Exception as error:  # noqa: BLE001
        failure = explained(error)
    # The frames are dropped too: the client's contain the headers of the request.
    failure.__cause__ = failure.__context__ = failure.__traceback__ = None
    raise failure  # outside the handler: inside it Python would set the client's error as the context
