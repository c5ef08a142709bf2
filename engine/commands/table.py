"""All commands, in the order in which ``runspec --help`` lists them. Nothing is imported before it is run."""

from __future__ import annotations

from engine.commands.parsing import Argument, Command
from engine.pipeline import run_words
from engine.pipeline.run_words import RUN_OPTIONS, RunOption

_START, _RUN, _LOOK, _PROVE, _DATA, _KAGGLE = (
    "start here",
    "check and run",
    "see what happened",
    "evidence",
    "data by itself",
    "on Kaggle",
)


def _option(option: RunOption) -> Argument:
    return Argument(option.name, option.help, option.value, repeat=option.repeat)


QUIET, PLAIN = _option(run_words.QUIET), _option(run_words.PLAIN)
# When and where a session ends changes no result: the recorded command is without these.
SESSION_OPTIONS = (
    Argument(
        "--session-limit", "end by itself before this time is over, resumable: 8h30m, 45m, 90s (exit code 7)", "TIME"
    ),
    Argument(
        "--session-out", "when the session ends, write what another machine needs to resume into this folder", "DIR"
    ),
    Argument("--continue-from", "resume from the --session-out folder of the session before", "DIR"),
)
SPEC = Argument("SPEC", "the run-spec, a YAML file")
OVERRIDES = Argument("KEY=VALUE", "overrides, by step id: train.num_train_steps=50", count="any")
TARGET = Argument("--target", "machine to plan for: kaggle-t4x2, h100, … (all: `runspec docs plan-a-run`)", "T")
EVIDENCE = Argument("RUN", "a run-spec, a run_version, an evidence folder, or a zip")
TRUST = Argument("--trust", "the keys that you trust: an allowed_signers file, or a public key", "KEYS")
WITNESS = Argument("--witness", "the output of the run's notebook version, which you downloaded", "FOLDER")
KAGGLE_RUN = Argument("RUN", "a run-spec or a run_version that was pushed")
_PUSHES = (
    Argument("--target", "Kaggle's machine: kaggle-t4x2, kaggle-v5e-8 or cpu (default: by the run-spec's device)", "T"),
    Argument("--notebook", "the notebook's name there: SLUG or OWNER/SLUG (default: runspec-RUN_VERSION)", "NAME"),
    Argument(
        "--session-limit",
        "when a session stops by itself, to be resumed by the next: 8h30m (default: what the quota allows, at most that)",
        "TIME",
    ),
    Argument(
        "--wheel-dataset",
        "OWNER/SLUG of a dataset with the engine's wheel, instead of the engine in the notebook",
        "DATASET",
    ),
    Argument(
        "--upload-data", "rows and eval set go there as a private dataset: for files that are too large for a notebook"
    ),
    Argument("--offline", "a session without internet: packages come from the wheel's dataset"),
    Argument("--public", "everybody may read the notebook, which trust level L2 needs"),
    Argument("--again", "push anew after an end; an unfinished run is resumed without it"),
    QUIET,
)
STAGING = Argument("--staging", "sigstore's staging instance instead of the public one")
TRUST_CONFIG = Argument("--trust-config", "an own sigstore instance: its ClientTrustConfig, a JSON file", "FILE")
SPEC_OR_RUN = Argument("RUN", "a run-spec or a run_version", count="optional")

COMMANDS: tuple[Command, ...] = (
    Command("init", "writes a run-spec to start with, its eval set and the schema for your editor", "start:init",
            (Argument("NAME", "a preset or an example; `runspec presets` lists them (default: quickstart)",
                      count="optional"),
             Argument("--dir", "the project folder (default: here)", "DIR"),
             Argument("--force", "overwrite files that are there")),
            more="""
            Where files are there and differ, it names them and writes nothing. It also makes
            .runspec/, which marks the project, and adds lines to
            .gitignore and .gitattributes.""", group=_START, page="spec"),
    Command("presets", "lists the run-specs that `init` can write", "start:presets", group=_START),
    Command("steps", "lists what `uses:` can name, installed plug-ins included", "start:steps", group=_START, page="add-a-step"),
    Command("schema", "prints the JSON schema of a run-spec, or of one step's `with`", "start:schema",
            (Argument("STEP", "a kind of step", count="optional"),), group=_START, page="schemas"),
    Command("doctor", "lists what this machine has, what is missing, and what to type", "start:doctor",
            (Argument("--no-devices", "do not start JAX to look for accelerators"),), group=_START, page="environment"),
    Command("docs", "prints these documents: the topics, a page, or what an error code means", "manual:docs",
            (Argument("TOPIC", "a page (own-data) or an error code (T114)", count="optional"),), group=_START,
            page="index"),
    Command("validate", "reports every error of the run-specs at once", "validate:validate",
            (Argument("SPEC", "one or more run-specs", count="some"), OVERRIDES), group=_RUN, page="spec"),
    Command("plan", "shows what would run or be skipped and why, and the cost: memory, time, disk",
            "plan:plan",
            (SPEC, OVERRIDES, TARGET,
             Argument("--exact", "ask the target's own compiler for the memory (see `runspec docs plan-a-run`)"),
             Argument("--shardings", "show how every weight is sharded over the target's devices"), QUIET),
            group=_RUN, page="plan-a-run"),
    Command("run", "runs the steps, resumes an interrupted run, renders evidence, packages and verifies",
            "run:run",
            (SPEC, OVERRIDES,
             *map(_option, RUN_OPTIONS), *SESSION_OPTIONS,
             Argument("--on", "not here: kaggle, or one of its machines (kaggle-t4x2, kaggle-v5e-8); as `runspec kaggle run`", "PLATFORM")),
            more="""
            A run that was stopped or killed resumes when the same command is typed again. Progress goes to
            standard error: a live display on a terminal, plain lines elsewhere and in notebooks.""", group=_RUN, page="resume"),
    Command("launch", "writes a job file for a cluster: SLURM, SkyPilot or JobSet",
            "launching:launch",
            (SPEC, OVERRIDES, Argument("--print", "needed: print the job file on standard output; nothing is submitted", required=True),
             Argument("--for", "slurm, skypilot or jobset (default: the run-spec's own)", "SCHEDULER")),
            more="""
            The run-spec's launch section says which machines. A job that was preempted or reached its time
            limit resumes from its last checkpoint when the scheduler restarts it.""", group=_RUN, page="cluster"),
    Command("status", "shows the runs of this project, or the steps of one", "look:status", (SPEC_OR_RUN,),
            group=_LOOK, page="resume"),
    Command("show", "shows what a finished run published: facts, files, digests", "look:show",
            (Argument("RUN", "a run-spec or a run_version"),
             Argument("STEP", "one step only", count="optional")), group=_LOOK, page="export"),
    Command("explain", "explains why each step would run or be skipped, and what changed", "look:explain",
            (SPEC, Argument("STEP", "one step only", count="optional"), OVERRIDES), group=_LOOK, page="plan-a-run"),
    Command("logs", "prints the log of a run", "look:logs",
            (SPEC_OR_RUN, Argument("--tail", "only the last N lines", "N", number=True)), group=_LOOK),
    Command("evidence", "renders the evidence files of a finished run", "evidence:evidence", (SPEC, OVERRIDES),
            group=_PROVE, page="evidence-files"),
    Command("package", "packs the evidence of a finished run into a zip", "evidence:package", (SPEC, OVERRIDES),
            group=_PROVE, page="verify"),
    Command("verify", "checks a run's evidence as a stranger would", "finish:verify",
            (Argument("PATH", "an evidence folder, a zip, or a run-spec"),
             Argument("--trust", "the keys that you trust: an allowed_signers file, a public key; of weights an EC key; repeatable",
                      "KEYS", repeat=True),
             Argument("--trust-identity", "who must have signed with sigstore: an e-mail address, or a workflow's URI", "WHO"),
             Argument("--trust-issuer", "who must know them: the URL of the identity provider", "URL"),
             STAGING, TRUST_CONFIG,
             Argument("--offline", "take sigstore's trust root as this machine last saw it"),
             WITNESS,
             Argument("--weights", "a model folder: are its files the recorded ones?", "FOLDER"),
             Argument("--signature", "the signature over --weights (default, with a key for it: FOLDER.sig)", "FILE"),
             Argument("--rerun", "generate K answers again from the model, and compare them", "K", number=True),
             Argument("--rerun-steps", "run the first N train steps again, and compare their losses", "N", number=True),
             Argument("--seed", "which K items: a number that an earlier re-run printed (default: drawn now)", "N", number=True),
             Argument("--checkpoint", "the model folder, where this project's store does not have it", "FOLDER"),
             Argument("--explain", "also list what the run states and nobody checks"), QUIET, PLAIN),
            more="""
            The last lines say what is proved, on the scale L0 to L3, and what the next level takes. With
            --trust, evidence that nobody in KEYS signed is exit code 5; with --trust-identity, evidence that
            WHO did not sign. So is another result of a re-run on the recorded platform. A re-run changes
            nothing, here or in the evidence. Without --trust-identity no network is asked.""", group=_PROVE, page="verify"),
    Command("sign", "signs evidence, so that a reader who trusts your key knows that it is yours", "trust:sign",
            (Argument("RUN", "a run-spec, a run_version, an evidence folder, or a zip; with --weights also a model folder"),
             Argument("--key", "an Ed25519 private key: ssh-keygen -t ed25519 makes one; of weights an EC key (PEM)", "FILE"),
             Argument("--sigstore", "sign as somebody, without a key: a bundle of sigstore"),
             Argument("--identity-token", "who signs: a file with the token (default: RUNSPEC_IDENTITY_TOKEN, the CI job, a browser)",
                      "FILE"),
             STAGING, TRUST_CONFIG,
             Argument("--weights", "sign the files of the exported model instead (OpenSSF model signing)"),
             Argument("--out", "where the signature over the weights goes (default: beside the folder, or the evidence)", "FILE")),
            group=_PROVE, page="sign-evidence"),
    Command("score", "scores the predictions of evidence again, or a predictions file against an eval set", "finish:score",
            (Argument("PREDICTIONS", "evidence (a run-spec, a run_version, a folder, a zip), or JSONL with id and text"),
             Argument("EVAL_SET", "JSONL eval set, where PREDICTIONS is a JSONL file", count="optional"),
             Argument("--metric", "default: the recorded one of evidence, answer_correctness@v1 of files", "NAME")),
            more="""
            Of evidence every answer is judged again: where the recorded score or a verdict is another one, the
            exit code is 5.""", group=_PROVE, page="scoring"),
    Command("report", "writes evidence as one HTML page: result, curves, scores, every item, checks", "reading:report",
            (EVIDENCE, Argument("--out", "the file to write (default: NAME.report.html, here)", "FILE"),
             Argument("--open", "open the page in a browser"), TRUST, WITNESS),
            more="""
            The page needs no network and no script. Equal evidence gives equal bytes. Where a check
            failed the page is written, says so first, and the exit code is 5.""", group=_PROVE, page="read-evidence"),
    Command("items", "prints each item of the eval set with what the model answered", "reading:items",
            (EVIDENCE, Argument("--wrong", "only those that are not right"),
             Argument("--category", "only those of this category", "C")), group=_PROVE, page="read-evidence"),
    Command("dataset check", "checks a dataset file and shows one row with its trained part",
            "data:dataset_check",
            (Argument("FILE", "JSONL, or a run-spec: its dataset is checked"),
             Argument("--format", "trace (default), prompt_completion or chat", "FORMAT"),
             Argument("--field", "the key that one of our fields has in the file: prompt=question; repeatable", "FIELD=KEY",
                      repeat=True),
             Argument("--eval-set", "also report prompts that are in this eval set", "FILE"),
             Argument("--model", "tokenise the rows with the tokenizer of this model folder", "FOLDER")),
            group=_DATA, page="own-data"),
    Command("dataset build", "builds a named dataset", "data:dataset_build",
            (Argument("NAME", "the builder's name"),
             Argument("--out", "folder to write to (default: datasets/NAME)", "DIR"),
             Argument("--seed", "default: 42", "N", number=True, most=2**31 - 1),
             Argument("--num-rows", "default: the builder's own number", "N", number=True, least=1)), group=_DATA, page="builders"),
    Command("evalset check", "checks an eval set: rows, ids, composition", "data:evalset_check",
            (Argument("FILE", "JSONL"),
             Argument("--on-duplicate", "of items that repeat a question: fail (default), keep or drop", "POLICY")),
            group=_DATA, page="data-formats"),
    Command("kaggle notebook", "writes the notebook that does a run there, in Colab or in Jupyter",
            "kaggle.notebook:notebook",
            (SPEC, OVERRIDES,
             Argument("--out", "the file to write (default: RUN_VERSION.ipynb, here)", "FILE"),
             Argument("--target", "the machine whose devices are asserted before anything long: kaggle-t4x2, kaggle-v5e-8, …", "T"),
             Argument("--session-limit", "the run stops by itself before this time is over, resumable: 8h30m", "TIME"),
             Argument("--continue-from", "the notebook whose output, attached as an input, the run continues from", "OWNER/NAME"),
             Argument("--wheel-dataset", "the engine is a wheel in this dataset, not in the notebook; the wheel is written, too",
                      "OWNER/SLUG"),
             Argument("--offline", "packages come from the wheels of that dataset: for a session without internet")),
            more="""
            The notebook has the runbook's nine cells, the run-spec and the files that it names. Equal
            engine, run-spec and options give equal bytes. Nothing is uploaded.""", group=_KAGGLE, page="kaggle"),
    Command("kaggle push", "pushes the run-spec's notebook to Kaggle, and says which version it is", "kaggle.driver:push",
            (SPEC, OVERRIDES, *_PUSHES), more="""
            What Kaggle would refuse is said before: credentials, quota, running sessions, size,
            machine. A push that got no answer is looked up, never sent twice.""", group=_KAGGLE, page="kaggle"),
    Command("kaggle run", "pushes, waits, fetches and verifies, through as many sessions as the run needs", "kaggle.driver:run",
            (SPEC, OVERRIDES, *_PUSHES), more="""
            Stopped or killed anywhere, the same command resumes. It ends with the evidence in this
            project, packed and verified, or with what went wrong.""", group=_KAGGLE, page="kaggle"),
    Command("kaggle status", "shows the runs that were pushed, or where one is now and what quota is left", "kaggle.driver:status",
            (SPEC_OR_RUN, QUIET), group=_KAGGLE, page="kaggle"),
    Command("kaggle logs", "prints the log of a run's last version", "kaggle.driver:logs",
            (KAGGLE_RUN, Argument("--follow", "print it on standard error as it comes, to its end"),
             Argument("--tail", "only the last N lines", "N", number=True), QUIET), group=_KAGGLE, page="kaggle"),
    Command("kaggle fetch", "fetches the output of a run's last version; of a complete run it makes the evidence", "kaggle.driver:fetch",
            (Argument("RUN", "a run-spec or a run_version that was pushed; or anybody's notebook: OWNER/NAME/VERSION"),
             Argument("--all", "checkpoints for the next session, too"),
             Argument("--out", "folder for OWNER/NAME/VERSION (default: kaggle-OWNER-NAME-vN, here)", "FOLDER"), QUIET), more="""
            OWNER/NAME/VERSION fetches the platform's own copy, which `runspec verify --witness` takes.
            Exit code 7 where the session stopped at its limit and another one has to go on.""", group=_KAGGLE, page="kaggle"),
)  # fmt: skip
