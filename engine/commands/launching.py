"""``launch``: the job file of a run-spec."""

from __future__ import annotations

from argparse import Namespace

from engine.commands import Reply, pick
from engine.commands.loading import load
from engine.errors import InputInvalid
from engine.launch import TEMPLATES, job_file


def launch(arguments: Namespace) -> Reply:
    """Print the job file. Raises InputInvalid U140 without ``--print``: nothing is submitted from here."""
    if arguments.scheduler is not None:
        pick("scheduler", arguments.scheduler, TEMPLATES)
    spec, _ = load(arguments.spec, arguments.overrides)
    job = job_file(spec, arguments.scheduler)
    if not arguments.print:
        raise InputInvalid(
            "U140",
            "runspec launch writes job files and does not submit them: add --print",
            hint=f"runspec launch {arguments.spec} --print > {job.name}\n{job.submit}",
        )
    document = {"ok": True, "scheduler": job.scheduler, "name": job.name, "submit": job.submit, "text": job.text}
    return Reply(document, job.text.rstrip("\n"))
