# Two commands do everything: `make run` and `make test`. Each sets up what it needs first, from nothing but
# Python 3.11 or later. Plain GNU make 3.81 and a POSIX shell are enough; `make -j` and `make -n` are safe.
#
#   SPEC=runspecs/m36.yaml   which run-spec (default: the quickstart)
#   ARGS='…'                 passed on: overrides and options for runspec, options for pytest
#   PYTHON=python3.12        which Python to build .venv with (default: the first that is new enough)
#   EXTRA=gpu                which extra to train with: train (default), gpu, tpu
#   SEED=7                   of `make parity`: the weights of an earlier run again
#   MODEL=path/or/name       of `make parity-real`: where the real weights are

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

SPEC ?= runspecs/quickstart.yaml
ARGS ?=
EXTRA ?= train
TEST_JOBS ?= 2

VENV := .venv
PY := $(VENV)/bin/python
RUNSPEC := $(VENV)/bin/runspec
RUN_STAMP := $(VENV)/.ready-$(EXTRA)
DEV_STAMP := $(VENV)/.ready-$(EXTRA)-dev
DOCS_STAMP := $(VENV)/.ready-docs
KAGGLE_STAMP := $(VENV)/.ready-kaggle

# pip reads the constraints for what it installs and for what it builds with (older pips know the first
# variable only, newer ones need the second); a user-wide `pip --user` must not reach into the environment.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_USER=0 \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install --quiet --quiet --constraint constraints.txt

# An environment knows its own path: one that came along with a copied or moved checkout would run the other
# checkout's code, and one whose Python has gone runs nothing. Both are made anew, by the next target that
# needs them.
HERE := $(CURDIR)
ifneq ($(shell test -x $(PY) && cat $(VENV)/.path 2>/dev/null),$(HERE))
.PHONY: $(VENV)/.path
endif

.PHONY: help setup run test test-all lint check bench bench-peers validate plan smoke train evidence package verify constraints notebook kaggle-notebook kaggle-run \
	mutants compilers parity parity-tests parity-real kaggle-parity kaggle-parity-tests golden golden-file docs docs-serve reference

help: ## this list
	@echo 'make TARGET [SPEC=runspecs/NAME.yaml] [ARGS=…]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: $(DEV_STAMP) ## make .venv with everything (run and test do it by themselves)

run: $(RUN_STAMP) ## run SPEC from its text to verified evidence; without SPEC the quickstart
	@$(RUNSPEC) run $(SPEC) $(ARGS)

test: $(DEV_STAMP) ## all tests but the slow ones
	@$(PY) -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(DEV_STAMP) ## all tests
	@TEST_XLA_FLAGS= $(PY) -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder -m 'not parity' $(ARGS)

lint: $(DEV_STAMP) ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

check: lint test ## lint, then test

# torch is no part of the engine and 5 GB with its CUDA libraries: an environment of its own, made by the same rules.
IN_PARITY := --no-print-directory VENV=.venv-parity EXTRA=parity

parity: ## every family live against transformers and torch, fresh weights each time (SEED=… repeats)
	@$(MAKE) $(IN_PARITY) parity-tests

parity-tests: $(DEV_STAMP)
	@$(PY) -m pytest tests/parity -m parity -q $(ARGS)

# Kaggle's own command and kagglehub: beside the driver's tests in an environment of its own too, without what trains.
IN_KAGGLE_PARITY := --no-print-directory VENV=.venv-kaggle-parity EXTRA=kaggle-parity
KAGGLE_PARITY := tests/kaggle/platform/test_real_client.py tests/kaggle/platform/test_real_kernel.py tests/kaggle/platform/failures \
	tests/kaggle/driver/test_parity.py

kaggle-parity: ## our requests to Kaggle beside those of its own clients, against a server on loopback
	@$(MAKE) $(IN_KAGGLE_PARITY) kaggle-parity-tests

kaggle-parity-tests: $(DEV_STAMP)
	@$(PY) -m pytest $(KAGGLE_PARITY) -m 'slow or not slow' -q $(ARGS)

parity-real: $(RUN_STAMP) ## greedy texts of the real google/gemma-2b (MODEL=folder, or HF_TOKEN)
	@MODEL='$(MODEL)' $(PY) tests/parity/real_weights.py

golden: ## write tests/fixtures/gemma_golden.npz again, after a change of kinds.py
	@$(MAKE) $(IN_PARITY) golden-file

golden-file: $(DEV_STAMP)
	@$(PY) tests/fixtures/make_gemma_golden.py

bench: $(DEV_STAMP) ## all benchmarks, each measure beside its bar
	@for file in $(filter-out benchmarks/figures.py,$(wildcard benchmarks/*.py)); do $(PY) "$$file" $(ARGS) || exit 1; done

bench-peers: $(DEV_STAMP) ## the benchmarks that have a peer (ARGS='--tunix PYTHON --write'); PyTorch's by `make parity`
	@$(PY) benchmarks/figures.py $(ARGS)

mutants: $(DEV_STAMP) ## small faults in the code, of which the tests must notice 90 % (ARGS='--module packing')
	@$(PY) tests/mutants.py $(ARGS)

docs: $(DOCS_STAMP) ## build the site of docs/ into .site/; a broken link or anchor stops it
	@rm -rf .site
	@$(VENV)/bin/zensical build --strict --clean --config-file mkdocs.yml

docs-serve: $(DOCS_STAMP) ## the site on this machine, rebuilt when a page changes
	@$(VENV)/bin/zensical serve --config-file mkdocs.yml $(ARGS)

reference: $(DEV_STAMP) ## write the generated parts of docs/reference/ again
	@$(PY) tests/docs/reference.py

validate: $(RUN_STAMP) ## SPEC: every error in its text
	@$(RUNSPEC) validate $(SPEC) $(ARGS)

plan: $(RUN_STAMP) ## SPEC: what would run, and why
	@$(RUNSPEC) plan $(SPEC) $(ARGS)

smoke: $(RUN_STAMP) ## SPEC: run up to the smoke run
	@$(RUNSPEC) run $(SPEC) --to smoke $(ARGS)

train: $(RUN_STAMP) ## SPEC: run up to the training
	@$(RUNSPEC) run $(SPEC) --to train $(ARGS)

evidence: $(RUN_STAMP) ## SPEC: render the evidence files of the finished run
	@$(RUNSPEC) evidence $(SPEC) $(ARGS)

package: $(RUN_STAMP) ## SPEC: make the zip of the evidence
	@$(RUNSPEC) package $(SPEC) $(ARGS)

verify: $(RUN_STAMP) ## SPEC: check its evidence as a stranger would
	@$(RUNSPEC) verify $(SPEC) $(ARGS)

notebook: $(RUN_STAMP) ## SPEC: write its notebook for Kaggle, Colab or Jupyter
	@$(RUNSPEC) kaggle notebook $(SPEC) $(ARGS)

kaggle-notebook: notebook ## the same

kaggle-run: $(KAGGLE_STAMP) ## run SPEC on Kaggle, to verified evidence here (ARGS='--target kaggle-t4x2')
	@$(RUNSPEC) kaggle run $(SPEC) $(ARGS)

compilers: .compilers/.ready ## the compilers of TPUs and GPUs, for `runspec plan --exact` without the device (1.3 GB)

# The extra `parity` is pinned by hand at the file's end: torch brings two dozen CUDA pins of its own, exact ones.
constraints: ## choose new versions: rewrite constraints.txt (needs uv and the network)
	@sed -n '/^#/p;/^[^#]/q' constraints.txt > constraints.tmp
	@uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	  --extra train --extra gpu --extra tpu --extra dev --extra docs \
	  --extra tensorboard --extra wandb --extra mlflow --extra trackio --extra sign --extra kaggle --extra sigstore --extra model-signing \
	  --no-annotate --no-header pyproject.toml >> constraints.tmp
	@sed -n '/^# By hand/,$$p' constraints.txt >> constraints.tmp
	@mv constraints.tmp constraints.txt
	@sed -n '/^# By hand/q;/^[^#]/p' constraints.txt > templates/kaggle/constraints.txt

# A folder of its own, never in .venv: where these can be imported they take over JAX's search for devices.
# Without what they depend on: to compile, the CUDA libraries (5 GB) are not needed.
COMPILERS := libtpu jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12

.compilers/.ready: constraints.txt | $(RUN_STAMP)
	@echo "installing $(COMPILERS) into .compilers (1.3 GB)"
	@rm -rf .compilers
	@$(PIP) --no-deps --target .compilers $(COMPILERS)
	@touch $@

# What follows makes the environment. A stamp is written last: a half-made environment is mended or made anew.

# The first of the candidates that really starts and is new enough (a pyenv shim may be there and not start).
FIND_PYTHON = found=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python3.12 python3.13 python); do \
	  if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'runspec-engine needs Python 3.11 or later with its venv module; found none as' \
	    '$(if $(PYTHON),$(PYTHON),python3.11 or python3). Install one, or name it: make PYTHON=/path/to/python …' >&2; \
	  exit 2; \
	fi

# What a link points to is somebody else's: making it anew would empty that folder.
$(VENV)/.path:
	@if test -L $(VENV); then \
	  echo '$(VENV) is a link, and make would empty the folder that it points to. Remove the link: rm $(VENV)' >&2; \
	  exit 2; \
	fi
	@$(FIND_PYTHON); \
	echo "making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)
	@pwd -P > $@

$(RUN_STAMP): pyproject.toml constraints.txt $(VENV)/.path
	@echo "installing runspec-engine[$(EXTRA)] into $(VENV) (the first time: a minute or two)"
	@$(PIP) --editable '.[$(EXTRA)]'
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) --editable '.[$(EXTRA),dev]'
	@touch $@

# The light core and Kaggle's client: what trains is there.
$(KAGGLE_STAMP): pyproject.toml constraints.txt $(VENV)/.path
	@echo "installing Kaggle's client into $(VENV)"
	@$(PIP) --editable '.[kaggle]'
	@touch $@

# The documents need no framework: the light core and the site's generator.
$(DOCS_STAMP): pyproject.toml constraints.txt $(VENV)/.path
	@echo "installing what the documents need into $(VENV)"
	@$(PIP) --editable '.[docs]'
	@touch $@
