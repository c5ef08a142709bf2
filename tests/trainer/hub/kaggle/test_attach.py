"""Laws of a session that attaches a model to itself: kagglehub's request, an end to the waiting, and a consent that is asked for by its page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.trainer.hub.kaggle import attaching
from tests.kaggle.platform.platform import Platform

TOKEN = "the-session's-own"


@pytest.fixture
def session(machine: Any, kaggle: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine that stands for a session of the loopback Kaggle, with nothing mounted and no credentials."""
    monkeypatch.setattr(attaching, "MOUNT_SECONDS", 0.3)
    root = tmp_path / "kaggle"
    (root / "input").mkdir(parents=True)
    version: Any = SimpleNamespace(kernel=SimpleNamespace(owner="someone"), session=SimpleNamespace(root=root))
    kaggle.world.passes[TOKEN] = version
    machine.environ |= {"RUNSPEC_KAGGLE_ROOT": str(root), "KAGGLE_KERNEL_RUN_TYPE": "Interactive", "KAGGLE_DATA_PROXY_URL": kaggle.url,
                        "KAGGLE_USER_SECRETS_TOKEN": TOKEN, "KAGGLE_DATA_PROXY_TOKEN": "proxy"}  # fmt: skip
    return machine


def test_a_session_attaches_what_is_not_mounted(session: Any, kaggle: Platform) -> None:
    """One request, and the mount is read as any other."""
    fetched = session.fetch()
    assert (fetched.place, [request.operation for request in kaggle.requests]) == ("mount", ["AttachDatasource"])
    assert [note["text"].split(":")[0] for note in session.named("note")] == [
        "acme/tiny-gemma/transformers/micro/3 is not mounted in this session",
        "acme/tiny-gemma/transformers/micro/3 is mounted in this session",
    ]


@pytest.mark.parametrize("failure", ["never_mounted", "mount_slug_missing", "server_error", "connection_cut"])
def test_what_is_never_mounted_is_not_waited_for(session: Any, kaggle: Platform, failure: str) -> None:
    """M410 says how to attach it by hand."""
    kaggle.fail(failure, on=("AttachDatasource",))
    assert session.error().code == "M410"


def test_a_licence_that_is_not_accepted_names_its_page(session: Any, kaggle: Platform) -> None:
    """M412, as for a download."""
    kaggle.fail("consent_missing")
    error = session.error()
    assert error.code == "M412"
    assert "open https://www.kaggle.com/models/acme/tiny-gemma" in str(error.diagnostics[0].hint)
    assert TOKEN not in str(error)
