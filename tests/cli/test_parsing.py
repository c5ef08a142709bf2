"""The command line's own errors and help."""

from __future__ import annotations

import json

import pytest

from engine.assets import asset
from engine.commands.parsing import command_help, parse
from engine.commands.table import COMMANDS
from engine.errors import InputInvalid

TOP_HELP = """\
runspec VERSION: one run-spec, from YAML to verified evidence

usage: runspec COMMAND [arguments] [--json]

start here:
  init           writes a run-spec to start with, its eval set and the schema for your editor
  presets        lists the run-specs that `init` can write
  steps          lists what `uses:` can name, installed plug-ins included
  schema         prints the JSON schema of a run-spec, or of one step's `with`
  doctor         lists what this machine has, what is missing, and what to type
  docs           prints these documents: the topics, a page, or what an error code means

check and run:
  validate       reports every error of the run-specs at once
  plan           shows what would run or be skipped and why, and the cost: memory, time, disk
  run            runs the steps, resumes an interrupted run, renders evidence, packages and verifies
  launch         writes a job file for a cluster: SLURM, SkyPilot or JobSet

see what happened:
  status         shows the runs of this project, or the steps of one
  show           shows what a finished run published: facts, files, digests
  explain        explains why each step would run or be skipped, and what changed
  logs           prints the log of a run

evidence:
  evidence       renders the evidence files of a finished run
  package        packs the evidence of a finished run into a zip
  verify         checks a run's evidence as a stranger would
  sign           signs evidence, so that a reader who trusts your key knows that it is yours
  score          scores the predictions of evidence again, or a predictions file against an eval set
  report         writes evidence as one HTML page: result, curves, scores, every item, checks
  items          prints each item of the eval set with what the model answered

data by itself:
  dataset check  checks a dataset file and shows one row with its trained part
  dataset build  builds a named dataset
  evalset check  checks an eval set: rows, ids, composition

`runspec COMMAND --help` says more, `runspec docs` has the documents. Exit codes: 0 ok,
1 run failed, 2 input invalid, 3 internal error, 4 evidence incomplete, 5 verification failed,
6 another run holds the lock, 7 stopped by the session limit, 8 remote refused, 130 interrupted.
"""

PLAN_HELP = """\
usage: runspec plan SPEC [KEY=VALUE…] [options]

Shows what would run or be skipped and why, and the cost: memory, time, disk.

arguments:
  SPEC          the run-spec, a YAML file
  [KEY=VALUE…]  overrides, by step id: train.num_train_steps=50

options:
  --target T   machine to plan for: kaggle-t4x2, h100, … (all: `runspec docs plan-a-run`)
  --exact      ask the target's own compiler for the memory (see `runspec docs plan-a-run`)
  --shardings  show how every weight is sharded over the target's devices
  --quiet      no progress; errors are still printed
  --json       print one JSON document on standard output, and nothing else there
  --help       show this help

more: runspec docs plan-a-run
"""


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(runspec, words):
    """`runspec` alone, --help, -h and help print the same golden page and succeed."""
    from engine import __version__

    done = runspec(*words)
    assert (done.code, done.err) == (0, "")
    assert done.out == TOP_HELP.replace("VERSION", __version__)


def test_help_of_a_command_is_golden(runspec):
    """A command's help has usage, arguments and options, whatever the Python version."""
    assert runspec("plan", "--help").out == runspec("help", "plan").out == PLAN_HELP


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_within_the_width(command, monkeypatch):
    """No line of any help is wider than the terminal; every option is explained."""
    monkeypatch.setenv("COLUMNS", "80")
    text = command_help(command)
    assert max(map(len, text.splitlines())) <= 100
    assert all(argument.help for argument in command.arguments)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_its_function(command):
    """The table names a function that exists."""
    assert callable(command.function())


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["validat"], "U101", 'there is no command "validat"', 'did you mean "runspec validate"?'),
        (["xyzzy"], "U101", 'there is no command "xyzzy"', "`runspec --help` lists the commands"),
        (["dataset"], "U101", '"runspec dataset" needs one more word', "one of: build, check"),
        (["dataset", "chek"], "U101", '"runspec dataset" has no "chek"',
         'did you mean "runspec dataset check"?'),
        (["--jsn"], "U102", 'there is no option "--jsn"', "`runspec --help` lists the commands"),
        (["run", "s.yaml", "--frce", "x"], "U102", 'runspec run has no option "--frce"',
         'did you mean "--force"?'),
        (["run", "s.yaml", "--forc=x"], "U102", 'runspec run has no option "--forc"',
         'did you mean "--force"?'),
        (["run"], "U103", "runspec run: SPEC is missing", "see `runspec run --help`"),
        (["validate"], "U103", "runspec validate: SPEC is missing", "see `runspec validate --help`"),
        (["score"], "U103", "runspec score: PREDICTIONS is missing", "see `runspec score --help`"),
        (["init", "a", "b"], "U103", "runspec init: too many arguments: b", "see `runspec init --help`"),
        (["plan", "s", "--target"], "U103", "runspec plan: --target: expected one argument",
         "see `runspec plan --help`"),
        (["logs", "--tail", "x"], "U103", "runspec logs: --tail: \"x\" is not a whole number",
         "see `runspec logs --help`"),
        (["run", "s.yaml", "train.x", "5"], "U103", "runspec run: too many arguments: train.x 5",
         "an override is KEY=VALUE, for example train.num_train_steps=50\nsee `runspec run --help`"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_wrong_words_are_explained(words, code, message, hint):
    """Each mistake on the command line has a stable code, a sentence and what to type instead."""
    with pytest.raises(InputInvalid) as caught:
        parse(words, COMMANDS)
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.message, diagnostic.hint) == (code, message, hint)


def test_overrides_and_options_may_stand_in_any_order():
    """An option between the spec and its overrides takes nothing away from them."""
    words = [
        "run",
        "spec.yaml",
        "--force",
        "a",
        "train.x=1",
        "--force=b",
        "train.y=a=b",
        "--from",
        "c",
        "--json",
    ]
    command, arguments = parse(words, COMMANDS)
    assert command.name == "run"
    assert arguments.spec == "spec.yaml"
    assert arguments.overrides == ["train.x=1", "train.y=a=b"]
    assert (arguments.force, arguments.start, arguments.json) == (["a", "b"], "c", True)


def test_a_negative_override_is_no_option():
    """`train.x=-1` and a file name after -- are words."""
    _, arguments = parse(["plan", "--json", "--", "--odd.yaml", "train.x=-1"], COMMANDS)
    assert (arguments.spec, arguments.overrides) == ("--odd.yaml", ["train.x=-1"])


def test_explain_takes_a_step_and_overrides():
    """A word without an equals sign is the step, the others are overrides."""
    _, arguments = parse(["explain", "s.yaml", "train.seed=1", "train"], COMMANDS)
    assert (arguments.step, arguments.overrides) == ("train", ["train.seed=1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dataset build x --seed -1", "--seed: -1 is not allowed, it must be from 0 to 2147483647"),
        ("dataset build x --seed 2147483648", "--seed: 2147483648 is not allowed, it must be from 0 to 2147483647"),
        ("dataset build x --seed 4.5", '--seed: "4.5" is not a whole number'),
        ("dataset build x --num-rows 0", "--num-rows: 0 is not allowed, it must be at least 1"),
        ("logs --tail -3", "--tail: -3 is not allowed, it must be at least 0"),
    ],
)
def test_a_number_has_the_limits_that_the_run_spec_has(words, message):
    """A data set of seed -1 could be built, and no run-spec could name it."""
    with pytest.raises(InputInvalid) as caught:
        parse(words.split(), COMMANDS)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message.partition(": ")[2]) == ("U103", message)


def test_the_limits_of_the_seed_are_the_schemas():
    known = json.loads(asset("schemas", "runspec.schema.json").read_text())
    seed = _named(known, "seed", "Seed of a builder. Equal seeds give equal results.")
    argument = next(a for c in COMMANDS if c.name == "dataset build" for a in c.arguments if a.name == "--seed")
    assert (argument.least, argument.most) == (seed["minimum"], seed["maximum"])


def _named(node, name, description):
    """The first schema of that name and description anywhere in the document."""
    if isinstance(node, list):
        return next((found for child in node if (found := _named(child, name, description))), None)
    if not isinstance(node, dict):
        return None
    if isinstance(node.get(name), dict) and node[name].get("description") == description:
        return node[name]
    return next((found for child in node.values() if (found := _named(child, name, description))), None)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("validate s.yaml train.seed\uff1d4",
         '"train.seed\uff1d4" has a fullwidth equals sign (U+FF1D) in the place of the sign =', "type train.seed=4"),
        ("run s.yaml train.seed = 4", 'an override is one word: "train.seed = 4" is 3',
         "type train.seed=4, without spaces around the sign"),
        ("plan s.yaml train.seed =4", 'an override is one word: "train.seed =4" is 2',
         "type train.seed=4, without spaces around the sign"),
    ],
)  # fmt: skip
def test_a_torn_override_is_not_taken_for_a_file(words, message, hint):
    """ "There is no such file" was all that was said."""
    with pytest.raises(InputInvalid) as caught:
        parse(words.split(), COMMANDS)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message, found.hint) == ("U103", message, hint)
