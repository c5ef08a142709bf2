"""The levels of trust: what each proves, which are shown, and what the next would take. Computed here and nowhere else.

In: whether all checks passed, who signed, what the witness checks found. Out: :class:`Trust`, with the whole scale. The level is the highest
that is shown; each stands for itself above L0 (a platform may have witnessed what nobody signed). A level is never read from the evidence.

    >>> trust = judge(ok=True, found={"V23": ("n/a", "unsigned")})
    >>> trust.level, trust.proves
    ('L0', 'the files agree with each other, and the score follows from the answers')
    >>> trust.next.name, trust.next.takes
    ('L1', 'a signature (`runspec sign`) by a key that you trust (`verify --trust KEYS`)')
    >>> judge(ok=False, found={}).level is None
    True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from engine.evidence.contents import Answer

L0, L1, L2, L3 = "L0", "L1", "L2", "L3"
LEVEL_CHECK = "V24"
SIGNATURES_CHECK = "V23"
WITNESS_CHECKS = ("V17", "V18", "V19")
ANSWERS_CHECK, LOSSES_CHECK = "V29", "V30"


@dataclass(frozen=True, slots=True)
class Rung:
    """One level. ``proves``: what is proved where it is shown; ``takes``: what it needs; ``found``: what was found."""

    name: str
    title: str
    proves: str
    takes: str
    shown: bool = False
    found: str = ""


SCALE: Sequence[Rung] = (
    Rung(L0, "it agrees with itself", "the files agree with each other, and the score follows from the answers",
         "every check passes"),
    Rung(L1, "somebody signed it", "somebody you trust signed exactly these files",
         "a signature (`runspec sign`) by a key that you trust (`verify --trust KEYS`)"),
    Rung(L2, "a platform witnessed it", "the platform's output, as you downloaded it, has a nonce from before the run and these files' digests",
         "the output of the public notebook version, downloaded by you (`verify --witness FOLDER`)"),
    Rung(L3, "it was run again", "a part of the run was run again here, with the same results",
         "running a part of it again, with model and data at hand (`verify --rerun K`)"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trust:
    """``level``: the highest that is shown; None where a check failed."""

    level: str | None
    rungs: Sequence[Rung]

    @property
    def proves(self) -> str:
        """What the level proves, for a headline."""
        shown = [rung.proves for rung in self.rungs if rung.shown]
        return "; and ".join(shown) if shown else "nothing: a check failed"

    @property
    def next(self) -> Rung | None:
        """The lowest level that is not shown."""
        return next((rung for rung in self.rungs if not rung.shown), None)


def judge(*, ok: bool, found: Mapping[str, Answer], signers: Sequence[str] = ()) -> Trust:
    """The level, from the answers of the checks (id -> answer) and the trusted signers among those who signed."""
    signature = found.get(SIGNATURES_CHECK, ("n/a", "not checked"))
    witness = [found.get(name, ("n/a", "")) for name in WITNESS_CHECKS]
    shown = {
        L0: (True, "all checks passed"),
        L1: (bool(signers), signature[1]),
        L2: (all(status == "pass" for status, _ in witness), witness[1][1] or "no witness"),
        L3: _run_again(found),
    }
    rungs = [
        replace(rung, shown=ok and shown[rung.name][0], found=shown[rung.name][1] if ok else "a check failed")
        for rung in SCALE
    ]
    rungs = [
        replace(rung, proves=f"{rung.proves}: {rung.found}") if rung.name == L3 and rung.shown else rung
        for rung in rungs
    ]
    return Trust(next((rung.name for rung in reversed(rungs) if rung.shown), None), rungs)


def _run_again(found: Mapping[str, Answer]) -> tuple[bool, str]:
    """Whether L3 is shown: by answers. Train steps alone are no proof of them: the first few of a run are done by any forger."""
    answers, losses = (found.get(name, ("n/a", "")) for name in (ANSWERS_CHECK, LOSSES_CHECK))
    told = [answers[1], losses[1] if losses[0] == "pass" else ""]
    return answers[0] == "pass", "; ".join(filter(None, told)) or "not run again"


def headline(trust: Trust) -> str:
    """What is proved, in one line.

    >>> headline(judge(ok=True, found={"V23": ("n/a", "unsigned")}))
    'L0, unsigned: the files agree with each other, and the score follows from the answers; that the run happened is not proved'
    """
    if trust.level is None:
        return "NOT verified: a check failed, so it proves nothing"
    signed = next(rung for rung in trust.rungs if rung.name == L1)
    note = ", unsigned" if signed.found.startswith("unsigned") else ""
    doubt = "" if trust.level in (L2, L3) else "; that the run happened is not proved"
    return f"{trust.level}{note}: {trust.proves}{doubt}"
