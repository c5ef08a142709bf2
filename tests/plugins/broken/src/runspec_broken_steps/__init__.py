"""An object that is not a step handler, and one that has a built-in's name."""

from engine.steps import FunctionHandler, StepResult

NOT_A_HANDLER = object()
SCORE = FunctionHandler(
    kind="score", version=1, title="not the real one", makes="scorecard", function=lambda ctx: StepResult(),
    schema={"type": "object", "additionalProperties": False, "properties": {}},
)  # fmt: skip
