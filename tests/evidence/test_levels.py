"""The level is the highest that is shown; the headline says what that proves, never how many checks passed."""

from __future__ import annotations

import pytest

from engine.evidence.levels import SCALE, headline, judge

UNSIGNED = {"V23": ("n/a", "unsigned")}
WITNESS = dict.fromkeys(("V17", "V18", "V19"), ("pass", "found"))


@pytest.mark.parametrize(
    ("found", "signers", "level", "next_", "start"),
    [
        (UNSIGNED, (), "L0", "L1", "L0, unsigned: the files agree with each other"),
        ({"V23": ("pass", "signed by SHA256:x, which you did not say you trust")}, (), "L0", "L1", "L0: the files agree"),
        ({"V23": ("pass", "signed by ann")}, ("ann",), "L1", "L2", "L1: the files agree"),
        ({**UNSIGNED, **WITNESS}, (), "L2", "L1", "L2, unsigned: the files agree"),
        ({"V23": ("pass", "signed by ann"), **WITNESS}, ("ann",), "L2", "L3", "L2: the files agree"),
        ({**UNSIGNED, **WITNESS, "V18": ("n/a", "no witness")}, (), "L0", "L1", "L0, unsigned"),
        ({**UNSIGNED, "V29": ("pass", "5 items")}, (), "L3", "L1", "L3, unsigned"),
        ({"V23": ("pass", "signed"), **WITNESS, "V29": ("pass", "5 items")}, ("ann",), "L3", None, "L3: the files agree"),
    ],
)  # fmt: skip
def test_the_level_follows_from_the_checks(
    found: dict[str, tuple[str, str]], signers: tuple[str, ...], level: str, next_: str | None, start: str
) -> None:
    """Each level stands for itself above L0."""
    trust = judge(ok=True, found=found, signers=signers)  # type: ignore[arg-type]
    assert (trust.level, trust.next.name if trust.next else None) == (level, next_)
    assert headline(trust).startswith(start)
    assert ("that the run happened is not proved" in headline(trust)) == (level in ("L0", "L1"))
    assert "checks passed" not in headline(trust)


def test_where_a_check_failed_nothing_is_proved() -> None:
    """Not by a signature either."""
    trust = judge(ok=False, found={"V23": ("pass", "signed by ann"), **WITNESS}, signers=("ann",))
    assert trust.level is None
    assert not any(rung.shown for rung in trust.rungs)
    assert headline(trust) == "NOT verified: a check failed, so it proves nothing"


def test_the_scale_is_complete() -> None:
    """Four levels, each with what it proves and what it takes."""
    assert [rung.name for rung in SCALE] == ["L0", "L1", "L2", "L3"]
    assert all(rung.proves and rung.takes for rung in SCALE)
