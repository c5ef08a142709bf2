"""``plan``: what would run and why, and what it would cost."""

from __future__ import annotations

from argparse import Namespace

from engine.artifacts.store import Store
from engine.canonical import JsonMapping, JsonObject
from engine.commands import Reply, columns
from engine.commands.loading import load
from engine.display.plain import make_console
from engine.pipeline.plan import Plan, make_plan
from engine.preflight import price, shardings
from engine.preflight.shardings import shardings_text


def plan(arguments: Namespace) -> Reply:
    """The steps with their reasons, and the estimated cost."""
    spec, handlers = load(arguments.spec, arguments.overrides)
    planned = make_plan(spec, handlers, Store(spec.root))
    console = make_console(quiet=arguments.quiet, plain=True)
    cost = price(spec, handlers, arguments.target, exact=console.note if arguments.exact else None)
    steps = [
        {
            "id": entry.step.id,
            "uses": entry.step.uses,
            "action": entry.action,
            "reason": entry.reason,
            "fingerprint": entry.fingerprint,
        }
        for entry in planned.steps
    ]
    text = f"{spec.run_version}: {_count(planned)}\n{_step_table(steps)}\n\n{price_text(cost)}"
    document = {"steps": steps, **cost}
    if arguments.shardings:
        document["shardings"] = shardings(spec, handlers, arguments.target)
        text += "".join(f"\n\n{shardings_text(name, table)}" for name, table in document["shardings"].items())
    return Reply(document, text)


def _count(planned: Plan) -> str:
    to_run = sum(entry.action == "run" for entry in planned.steps)
    if not to_run:
        return "nothing to run, every step is done"
    return f"{to_run} of {len(planned.steps)} steps to run"


def _step_table(steps: list[JsonObject]) -> str:
    return columns((str(step["id"]), str(step["uses"]), str(step["action"]), str(step["reason"])) for step in steps)


def price_text(cost: JsonMapping) -> str:
    """The estimated cost as a person reads it: memory, time and disk, one line each."""
    memory, time_, disk = cost["memory"], cost["time"], cost["disk"]
    where = f"{memory['target']}, {memory['devices']} device{'s' * (memory['devices'] != 1)}"
    if memory["peak_bytes_per_device"] is None:
        first = f"memory  unknown on {where}: {memory['reason']}"
    else:
        verdict = "fits" if memory["fits"] else "does NOT fit"
        limit = _gib(memory["limit_bytes_per_device"])
        peak = _gib(memory["peak_bytes_per_device"])
        source = memory["source"]
        estimate = source == "analytic"
        how = "an estimate; runspec plan --exact asks the compiler" if estimate else f"says the {source}"
        first = f"memory  {verdict}: {'about ' * estimate}{peak} of {limit} per device on {where} ({how})"
    seconds = time_["seconds"]
    second = f"time    {time_['reason']}" if seconds is None else f"time    about {seconds:.0f} s"
    third = (
        f"disk    unknown: {disk.get('reason')}"
        if disk["needed_bytes"] is None
        else (
            f"disk    {'fits' if disk['fits'] else 'does NOT fit'}: about {_gib(disk['needed_bytes'])} of "
            f"{_gib(disk['limit_bytes'])}"
        )
    )
    return "\n".join([first, second, third])


def _gib(count: int) -> str:
    if count < 1 << 30:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / (1 << 30):.2f} GiB"
