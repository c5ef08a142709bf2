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
from engine.protocol.device_memory import USABLE_SHARE
from engine.protocol.figures import duration


def plan(arguments: Namespace) -> Reply:
    """The steps with their reasons, and the estimated cost."""
    spec, handlers = load(arguments.spec, arguments.overrides)
    store = Store(spec.root)
    planned = make_plan(spec, handlers, store)
    console = make_console(quiet=arguments.quiet, plain=True)
    staged = [store.staging(entry.work_key).root for entry in planned.steps if entry.fingerprint]
    exact = console.note if arguments.exact else None
    cost = price(spec, handlers, arguments.target, exact=exact, staged=staged)
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
    """The estimated cost as a person reads it: memory, time, disks, one line each, and a warning of a retired target."""
    return "\n".join([*_retired(cost["target"]), _memory(cost["memory"]), _time(cost["time"]), *_disks(cost["disk"])])


def _retired(target: JsonMapping) -> list[str]:
    retired = target["retired"]
    if retired is None:
        return []
    source = f"{retired['source']}, read {retired['read']}"
    return [
        f"target  nobody gets {target['name']} any more; plan for {retired['instead']}: {retired['says']} ({source})"
    ]


def _memory(memory: JsonMapping) -> str:
    where = f"{memory['target']}, {memory['devices']} device{'s' * (memory['devices'] != 1)}"
    peak, limit = memory["peak_bytes_per_device"], memory["limit_bytes_per_device"]
    if peak is None:
        return f"memory  unknown on {where}: {memory['reason']}"
    verdict = {True: "fits", False: "does NOT fit", None: "the memory is not known"}[memory["fits"]]
    estimate = memory["source"] == "analytic"
    how = "an estimate; runspec plan --exact asks the compiler" if estimate else f"says the {memory['source']}"
    share = memory["memory_fraction"]
    of = "" if limit is None else f" of {_gib(limit)}"
    of += "" if share is None else f" ({share:.0%} of {_gib(memory['device_bytes'])})"
    if memory["fits"] is False and limit is not None and peak <= limit:
        of += f", of which a program can use {USABLE_SHARE:.0%} (the rest is lost in gaps between arrays),"
    policy = f"remat: {memory['remat']}"
    return f"memory  {verdict}: {'about ' * estimate}{_gib(peak)}{of} per device on {where}, {policy} ({how})"


def _time(time: JsonMapping) -> str:
    if time["seconds"] is None:
        return f"time    not estimated: {time['reason']}"
    about = f"about {duration(time['seconds'])}"
    if time["fits"] is not None:
        verdict = "fits" if time["fits"] else "does NOT fit: it goes over several sessions"
        about = f"{verdict}: {about} of the {duration(time['limit_seconds'])} of a session"
    return f"time    {about} (an estimate: {time['assumes']})"


def _disks(disk: JsonMapping) -> list[str]:
    """One line for each disk that needs something."""
    if disk["needed_bytes"] is None:
        return [f"disk    unknown: {disk['reason']}"]
    lines = []
    for row in disk["disks"]:
        if not row["needed_bytes"]:
            continue
        places = ", ".join(row["places"])
        size = f"about {_gib(row['needed_bytes'])}"
        if row["limit_bytes"] is None:
            lines.append(f"disk    {size} ({places}; worst in {row['phase']}): {row['reason']}")
            continue
        verdict = "fits" if row["fits"] else "does NOT fit"
        lines.append(f"disk    {verdict}: {size} of {_gib(row['limit_bytes'])} ({places}; worst in {row['phase']})")
    return lines or ["disk    fits: nothing large is written"]


def _gib(count: int) -> str:
    if count < 1 << 30:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / (1 << 30):.2f} GiB"
