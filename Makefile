# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo-out
PYTEST_ARGS ?=
# Number of processes that share the tests; those of one file stay together.
JOBS ?= 2
# In the order of collection, slow files first (tests/conftest.py).
XDIST := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# TORCH=cuda takes PyTorch as the package registry has it; the default prefers the CPU build.
TORCH ?= cpu
# An index that holds PyTorch's CPU build, where pip's own configuration names none.
TORCH_INDEX ?=
# Versions of the other packages: lock (requirements/lock.txt), minimum (requirements/minimum.txt) or
# latest (the newest that setup.cfg allows).
DEPENDENCIES ?= lock

# Name of the container image, and options of its build.
IMAGE ?= bids_interp
IMAGE_ARGS ?=

TORCH_VERSION := 2.13.0
SHELL_SCRIPTS = .ci/run $(shell find boilerplate bids_interp -name '*.sh' -o -name '*.sbatch')
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
CONSTRAINTS := $(if $(filter-out latest,$(DEPENDENCIES)),-c requirements/$(DEPENDENCIES).txt)
READY := $(VENV)/.ready-$(TORCH)-$(DEPENDENCIES)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-minimum coverage lint mutants test-faults fuzz audit image test-container test-slurm benchmark docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(READY)  ## the virtual environment with everything in it

$(READY): setup.cfg pyproject.toml $(filter %.txt,$(CONSTRAINTS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'bids_interp needs Python 3.11 or newer: make PYTHON=python3.11 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'Python has no venv module: install it first (Debian: apt-get install python3-venv).' >&2; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing PyTorch and the other packages; this takes some minutes once.'
	$(PIP) --upgrade pip setuptools wheel
	@if [ '$(TORCH)' = cpu ] && $(PIP) $(INDEX) 'torch==$(TORCH_VERSION)+cpu' 2>/dev/null; then \
	  echo 'PyTorch $(TORCH_VERSION), CPU build.'; \
	else \
	  echo 'PyTorch $(TORCH_VERSION) as the package registry has it.'; \
	  $(PIP) $(INDEX) 'torch==$(TORCH_VERSION)'; \
	fi
	PYTHONWARNINGS=ignore $(PIP) $(CONSTRAINTS) --no-build-isolation -e '.[test]'
	@touch $@

demo: $(READY)  ## the main job on made-up heads with the demonstration model; prints the reports' paths
	$(BIN)/bids_interp_tools demo $(DEMO_DIR)

lint: $(READY)  ## formatting, lint rules, spelling, shell scripts, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/cffconvert --validate
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg --no-cache --no-logo

test: lint  ## lint, then every test (those on real scans where ../shared is there)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(XDIST) $(PYTEST_ARGS)

test-minimum:  ## the quick tests with the oldest versions that setup.cfg allows, in .venv-min
	$(MAKE) venv VENV=.venv-min DEPENDENCIES=minimum
	OMP_NUM_THREADS=1 .venv-min/bin/python -m pytest $(XDIST) -m 'not slow' $(PYTEST_ARGS)

coverage: $(READY)  ## every test, with the share of statements that they run, by room
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(XDIST) --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python .ci/coverage_by_room.py

mutants: $(READY)  ## one-line changes that the tests must notice; writes docs/mutants.md
	$(BIN)/python tests/mutants.py

test-faults: $(READY)  ## every fault of tests/faults; writes docs/reliability.md
	@rm -f build/faults.json
	BIDS_INTERP_FAULTS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

# Time for all targets together; the corpus stays in FUZZ_DIR, and a later run goes on from it.
FUZZ_SECONDS ?= 1800
FUZZ_DIR ?= build/fuzz

fuzz: $(READY)  ## coverage-guided fuzzing of the readers (see docs/hostile-inputs.md)
	$(PIP) -c requirements/lock.txt -e '.[fuzz]' --no-build-isolation
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS) --folder $(FUZZ_DIR)

audit: $(READY)  ## known vulnerabilities of the pinned versions; needs a network
	$(PIP) -c requirements/lock.txt -e '.[audit]' --no-build-isolation
	$(BIN)/pip-audit --requirement requirements/lock.txt --no-deps --disable-pip

image:  ## the container image, by Docker or Buildah (see docs/containers.md)
	$(PYTHON) tests/helpers/image.py $(IMAGE) $(IMAGE_ARGS)

# Exit code 69 says that this machine has no means for it, after having said which.
test-container: $(READY)  ## build the image, then test it under Docker or Podman, and Apptainer
	@$(BIN)/hadolint Dockerfile
	@$(PYTHON) tests/helpers/image.py $(IMAGE) $(IMAGE_ARGS); code=$$?; \
	if [ $$code = 69 ]; then echo 'test-container: nothing was tested, see above'; exit 0; fi; \
	[ $$code = 0 ] || exit $$code; \
	BIDS_INTERP_IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/containers $(PYTEST_ARGS)

test-slurm: $(READY)  ## test the job scripts and the plugin Dask under a real SLURM on this machine
	@$(PYTHON) tests/helpers/slurm.py check; code=$$?; \
	if [ $$code = 69 ]; then echo 'test-slurm: nothing was tested, see above'; exit 0; fi; \
	[ $$code = 0 ] || exit $$code; \
	BIDS_INTERP_SLURM=1 $(BIN)/python -m pytest tests/cluster $(PYTEST_ARGS)

benchmark: $(READY)  ## time and memory of one participant (see docs/development.md)
	$(BIN)/python benchmarks/bench_participant.py

docs: $(READY)  ## the documents as web pages in build/site
	$(PIP) -c requirements/lock.txt 'mkdocs>=1.6,<2'
	$(BIN)/mkdocs build --quiet

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) .venv-min .coverage build dist site demo-out *.egg-info .mypy_cache .pytest_cache .ruff_cache
