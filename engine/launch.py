"""The job file that runs a run-spec on a cluster, rendered from the spec. A pure function; it submits nothing.

In: a Spec with a launch section. Out: the text, the file name to save it under, and the command that submits it.

    job = job_file(spec)                 # JobFile("slurm", "m36_v1.sbatch", "#!/bin/bash…", "sbatch m36_v1.sbatch")
    job = job_file(spec, "skypilot")     # for another scheduler than the spec's

Each machine runs one process, with all devices of the machine. The processes find each other

- through SLURM's own variables, which JAX knows (``cluster: auto`` of train_sft: jax.distributed's auto-detection),
- on Cloud TPUs through the TPU's own metadata (also ``cluster: auto``),
- elsewhere by RUNSPEC_COORDINATOR (host:port of the first), RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID.

A run that is interrupted or reaches its time limit saves a checkpoint and ends with 130 (docs/reference/exit-codes.md);
the scheduler restarts those. Sources: the manuals of sbatch and srun; SkyPilot's YAML reference and
sky/utils/schemas.py; JobSet's API (jobset.x-k8s.io/v1alpha2); jax/_src/clusters.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.assets import asset
from engine.canonical import JsonMapping, JsonObject, readable, shell_words
from engine.errors import Diagnostic, InputInvalid, Where
from engine.redact import find_secrets, is_secret_name, redact
from engine.runspec.kinds import base_schema
from engine.runspec.model import LaunchSpec, Spec

RESTART_EXIT_CODES = (130,)
GRACE_SECONDS = 180  # between the stop signal and the kill: the train step in progress, then a checkpoint
COORDINATOR_PORT = 55527
EXAMPLE = "launch: {scheduler: slurm, machines: 2, devices_per_machine: 4, time_limit_minutes: 720}"
# Name of each device there; a device that is missing is not available there.
DEVICES: Mapping[str, Mapping[str, str]] = {
    "slurm": {"cpu": "", "gpu": "gpu"},
    "skypilot": {"cpu": "", "gpu": "gpu", "tpu": "tpu"},
    "jobset": {"cpu": "", "gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"},
}
TEMPLATES: Mapping[str, tuple[str, str, str]] = {  # scheduler -> template, file ending, command that submits it
    "slurm": ("slurm.sh.j2", "sbatch", "sbatch {}"),
    "skypilot": ("skypilot.yaml.j2", "sky.yaml", "sky jobs launch {}"),
    "jobset": ("jobset.yaml.j2", "jobset.yaml", "kubectl apply -f {}"),
}


@dataclass(frozen=True, slots=True)
class JobFile:
    """``text`` is to be saved as ``name`` and submitted with ``submit``."""

    scheduler: str
    name: str
    text: str
    submit: str


def job_file(spec: Spec, scheduler: str | None = None) -> JobFile:
    """Render it. Raises InputInvalid L101 to L105 with every finding at once."""
    launch = _launch_of(spec, scheduler)
    findings = list(_findings(spec, launch))
    if findings:
        raise InputInvalid.of(findings)
    template, ending, submit = TEMPLATES[launch.scheduler]
    name = f"{spec.run_version}.{ending}"
    # SkyPilot reads the values of secrets from the submitter's environment, for the names on its command line.
    secrets = "".join(f" --secret {secret}" for secret in launch.secrets) if launch.scheduler == "skypilot" else ""
    text = _render(template, _view(spec, launch))
    _refuse_secrets(spec, text)
    return JobFile(launch.scheduler, name, text, submit.format(name) + secrets)


def _refuse_secrets(spec: Spec, text: str) -> None:
    """X342: the job file is made to be kept beside the run-spec, and a line of it holds a secret."""
    found = find_secrets({"line": text.encode()}, os.environ)
    if found:
        rows = [Diagnostic("X342", f"{place.replace(':', ' ')} of the job file would show a secret ({kind})", _where(spec, "launch"),
                           "take it out of the run-spec; write the name of its variable under launch.secrets")
                for place, kind in found]  # fmt: skip
        raise InputInvalid.of(rows)


def _launch_of(spec: Spec, scheduler: str | None) -> LaunchSpec:
    if spec.launch is None:
        raise InputInvalid("L101", "the run-spec names no machines: it has no launch section",
                           where=_where(spec, "launch"), hint=f"add one, say\n{EXAMPLE}")  # fmt: skip
    return replace(spec.launch, scheduler=scheduler or spec.launch.scheduler)  # type: ignore[arg-type]


def _where(spec: Spec, path: str) -> Where:
    file = spec.path.relative_to(spec.root) if spec.path.is_relative_to(spec.root) else spec.path
    return Where(file.as_posix(), path=path)


def _findings(spec: Spec, launch: LaunchSpec) -> Iterator[Diagnostic]:
    available = DEVICES[launch.scheduler]
    if spec.device not in available:
        why = "device is auto" if spec.device == "auto" else f"{launch.scheduler} has no {spec.device}"
        yield Diagnostic("L102", f"a job file must request its devices, and {why}", _where(spec, "device"),
                         f"write device: {' or '.join(available)}")  # fmt: skip
    elif (launch.devices_per_machine == 0) != (spec.device == "cpu"):
        message = f"device is {spec.device}, but devices_per_machine is {launch.devices_per_machine}"
        yield Diagnostic("L102", message, _where(spec, "launch.devices_per_machine"),
                         "write 0 with device: cpu, and at least 1 with any other device")  # fmt: skip
    for key, why in _needed(spec, launch):
        yield Diagnostic("L103", f"{launch.scheduler} needs {key}: {why}", _where(spec, f"launch.{key}"))
    if launch.machines > 1 and (launch.scheduler == "slurm" or spec.device == "tpu"):
        for step in spec.steps:
            if step.args.get("cluster") == "none":  # elsewhere RUNSPEC_COORDINATOR overrides what is declared
                message = f'step "{step.id}" trains on one machine (cluster: none), and the job has {launch.machines}'
                yield Diagnostic("L105", message, step.where, "write cluster: auto under its `with:`")
    for variable in launch.environment:
        name = variable.split("=", 1)[0]
        if is_secret_name(name) or redact(variable) != variable:
            yield Diagnostic("L104", f"{name} looks like a secret, and the job file would show its value",
                             _where(spec, "launch.environment"), f"remove it and write secrets: [{name}]")  # fmt: skip


def _needed(spec: Spec, launch: LaunchSpec) -> Iterator[tuple[str, str]]:
    """The keys that this scheduler needs and the spec leaves out, with the reason."""
    named = {f"{launch.scheduler}.{key}": value for key, value in launch.own[launch.scheduler].items()}
    if launch.scheduler in ("skypilot", "jobset") and spec.device in ("gpu", "tpu") and not launch.accelerator:
        yield "accelerator", "there are several kinds"
    if launch.scheduler == "jobset":
        if not named.get("jobset.image"):
            yield "jobset.image", "a container needs an image with the engine"
        if not named.get("jobset.volume_claim"):
            yield "jobset.volume_claim", "the project and its checkpoints must outlive the containers"
        if launch.secrets and not named.get("jobset.secret"):
            yield "jobset.secret", "it has the values of the secrets"
        if spec.device == "tpu" and not named.get("jobset.tpu_topology"):
            yield "jobset.tpu_topology", "every slice has a topology"


def _view(spec: Spec, launch: LaunchSpec) -> JsonObject:
    """The values that the templates see."""
    minutes = launch.time_limit_minutes
    return {
        "name": spec.run_version,
        "dns_name": dns_name(spec.run_version),
        "spec_path": readable(_where(spec, "").file),
        "command": shell_words(["runspec", "run", _where(spec, "").file, *_overrides(spec)]),
        "device": spec.device,
        "resource": DEVICES[launch.scheduler][spec.device],
        "machines": launch.machines,
        "devices": launch.devices_per_machine,
        "accelerator": launch.accelerator,
        "cpus": launch.cpus_per_machine,
        "memory_gib": launch.memory_gib_per_machine,
        "seconds": minutes * 60,
        "slurm_time": f"{minutes // 1440}-{minutes % 1440 // 60:02}:{minutes % 60:02}:00",
        "grace_seconds": GRACE_SECONDS,
        "max_restarts": launch.max_restarts,
        "restart_codes": list(RESTART_EXIT_CODES),
        "setup": list(launch.setup),
        "environment": [tuple(variable.split("=", 1)) for variable in launch.environment],
        "secrets": list(launch.secrets),
        "port": COORDINATOR_PORT,
        "only": dict.fromkeys(_keys_of(launch.scheduler)) | dict(launch.own[launch.scheduler]),
    }


def _keys_of(scheduler: str) -> tuple[str, ...]:
    return tuple(base_schema()["properties"]["launch"]["properties"][scheduler]["properties"])


def _overrides(spec: Spec) -> list[str]:
    """Those of the run; those of the launch section are in the job file already."""
    return [override.text for override in spec.overrides if override.path.split(".")[0] != "launch"]


def dns_name(text: str) -> str:
    """A name that Kubernetes and SkyPilot accept: lower case, digits and '-', at most 40 characters.

    >>> dns_name("M36_v1.final")
    'm36-v1-final'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"r{text}".lower() if text[:1].isdigit() else text.lower())[:40].strip("-")


def _render(template: str, view: JsonMapping) -> str:
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(asset("templates", "launch")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # shell and YAML, quoted by the two filters below
    )
    environment.filters |= {"sh": lambda value: shlex.quote(str(value)), "q": _json, "literal": _literal}
    return environment.get_template(template).render(**view)


def _literal(value: str) -> str:
    """Escaped for a pod's command or environment, so that Kubernetes expands nothing.

    >>> _literal("$(HOME) $$ $USER")
    '$$(HOME) $$$ $USER'
    """
    return re.sub(r"\$(?=[$(])", "$$", value)


def _json(value: object) -> str:
    """A scalar or a list as YAML, of which JSON is a subset."""
    return json.dumps(value, ensure_ascii=False)
