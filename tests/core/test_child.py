"""The environment that a trainer's process is given."""

from __future__ import annotations

import pytest

from engine.child import trainer_environment


@pytest.mark.parametrize(
    ("theirs", "given"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_huge_pages_unless_the_person_says_otherwise(
    theirs: str | None, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable holds all tunables of the C library: ours joins what is there, and goes after it."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if theirs is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", theirs)
    assert trainer_environment()["GLIBC_TUNABLES"] == given
