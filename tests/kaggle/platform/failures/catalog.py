"""All failures by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.kaggle.platform.failures.in_session import IN_SESSION
from tests.kaggle.platform.failures.outputs import OUTPUTS
from tests.kaggle.platform.failures.pushes import PUSHES
from tests.kaggle.platform.failures.statuses import STATUSES
from tests.kaggle.platform.failures.table import Failure
from tests.kaggle.platform.failures.transport import TRANSPORT

FAILURES: Mapping[str, Failure] = {**PUSHES, **TRANSPORT, **STATUSES, **OUTPUTS, **IN_SESSION}
