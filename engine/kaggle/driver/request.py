"""What a person asks of the driver on the command line.

In: the options of ``runspec kaggle push`` and ``run``. Out: one immutable value, which planning, preflight and the machine read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from engine.canonical import JsonMapping, JsonObject


@dataclass(frozen=True, slots=True)
class PushRequest:
    """The options of the command line. ``again``: a new push after an end; ``whole_output``: checkpoints are fetched too."""

    typed: tuple[str, ...] = ()  # the overrides
    target: str | None = None
    notebook: str | None = None
    session_limit: str | None = None
    wheel_dataset: str | None = None
    upload_data: bool = False
    offline: bool = False
    is_public: bool = False
    again: bool = False
    whole_output: bool = False

    def options(self) -> JsonObject:
        """What the next session of the same run is pushed with, too."""
        return {name: value for name, value in asdict(self).items() if name in _KEPT}

    def beside(self, earlier: JsonMapping) -> list[str]:
        """What was typed and is not as in an earlier push, as it was typed; what is left out differs in nothing.

        >>> PushRequest(target="cpu", is_public=True).beside({"target": "kaggle-t4x2", "is_public": True})
        ['--target cpu']
        """
        typed = {name: value for name, value in self.options().items() if value not in (None, False, earlier.get(name))}
        return [_WORDS[name] if value is True else f"{_WORDS[name]} {value}" for name, value in typed.items()]

    def over(self, earlier: JsonMapping) -> PushRequest:
        """These options; where one is left out, that of an earlier push.

        >>> PushRequest(session_limit="2h").over({"target": "cpu", "session_limit": "1h"}).options()["session_limit"]
        '2h'
        """
        left_out = {name for name, value in self.options().items() if value in (None, False)}
        return replace(self, **{name: value for name, value in earlier.items() if name in left_out})


# Option -> the word that is typed for it.
_WORDS = {
    "target": "--target",
    "session_limit": "--session-limit",
    "wheel_dataset": "--wheel-dataset",
    "upload_data": "--upload-data",
    "offline": "--offline",
    "is_public": "--public",
}
_KEPT = frozenset(_WORDS)
