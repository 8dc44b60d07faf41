# Everything runs in .venv, which is made when it is missing and brought up to date when pyproject.toml or constraints.txt has changed.
# `make demo` installs what distill and its demo need, the others also what tests and checks need (the extra dev).
#   make test PYTHON=python3.12     takes that interpreter for a new .venv
#   make test UV=                   takes plain venv and pip, also where uv is installed
#   make test JOBS=4                takes four processes where there are cores and 3 GB for each; ARGS="-n 0 -x" tests in one, which a debugger can stop

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
UV ?= $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
LOG := $(VENV)/install.log
OUT ?= demo
ARGS ?=
JOBS ?= 2

# worksteal: each process has one half of the files in their order, so that what a file's tests share is made once; who is done first helps
TEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

export TF_CPP_MIN_LOG_LEVEL ?= 2

SUPPORTED := sys.version_info[:2] in ((3, 11), (3, 12), (3, 13))
CALLED := $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)

.PHONY: help demo test test-all test-engines check bench golden constraints
.NOTPARALLEL:

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

demo: $(READY) ## the whole job on drawn faces, into demo/ (OUT=folder; ARGS=--small takes a minute, ARGS=--train-teacher trains the teacher too)
	$(BIN)/distill demo $(OUT) $(ARGS)

test: $(READY_DEV) ## all tests that do not take minutes
	$(TEST) -m "not slow and not engines" $(ARGS)

test-all: $(READY_DEV) ## all tests but those of `make test-engines`
	$(TEST) -m "not engines" $(ARGS)

# Prism by Go and Flink's job server by Maven, where these are installed and have them; without them their tests say that they were skipped.
BEAM = $(shell sed -n 's/^apache-beam==//p' constraints.txt)
FLINK = 1.20
FLINK_JAR = $(VENV)/flink-job-server.jar
test-engines: $(READY_DEV) ## the same bytes from Dask, Prism, Flink and Dataflow: installs what they need
	@$(if $(UV),"$(UV)" pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check -q) -c constraints.txt -e ".[dask,dataflow]"
	@GOBIN="$(CURDIR)/$(BIN)" go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM) || echo "no Prism: go install failed"
	@mvn -q -B dependency:copy -Dartifact=org.apache.beam:beam-runners-flink-$(FLINK)-job-server:$(BEAM) -DoutputDirectory=$(VENV)/flink \
	  && mv $(VENV)/flink/*.jar $(FLINK_JAR) || echo "no Flink: Maven does not have its job server for Beam $(BEAM)"
	PRISM="$$(ls $(CURDIR)/$(BIN)/prism 2> /dev/null)" FLINK_JOB_SERVER="$$(ls $(CURDIR)/$(FLINK_JAR) 2> /dev/null)" $(BIN)/python -m pytest tests/pipelines/test_engines.py -m "engines or not slow" -rs $(ARGS)

check: $(READY_DEV) ## ruff, mypy and the contract of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY_DEV) ## all benchmarks: tables of ratios, and JSON in benchmarks/results/
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename "$$script" .py)" $(ARGS); done

golden: $(READY_DEV) ## write the golden files of the present format version, which every later version must be able to read
	$(BIN)/python -m tests.golden.make $(ARGS)

constraints: ## resolve constraints.txt anew (needs uv)
	@echo "resolving the versions of every extra for Python 3.11 to 3.13"
	@found=$$(uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --all-extras --upgrade pyproject.toml); \
	{ head -1 constraints.txt; grep -v "win32'" <<< "$$found"; } > constraints.new; \
	mv constraints.new constraints.txt

# Prints the first interpreter that runs and can be used; an interpreter on the PATH may be a stub that only prints an error.
# Without uv it must be able to make an environment with pip in it, which Debian leaves out of its python3 package.
define FIND_PYTHON
for name in $(CALLED); do \
  for found in $$(type -aP "$$name" || true); do \
    if "$$found" -c "import sys; assert $(SUPPORTED)$(if $(UV),,; import ensurepip)" 2> /dev/null; then echo "$$found"; exit; fi; \
  done; \
done
endef

# One line for each thing that is done. What uv or pip prints is kept in .venv/install.log, and its end is shown where it fails.
$(READY): WHAT := .[probe]
$(READY): WORDS := what distill and its demo need
$(READY_DEV): WHAT := .[dev]
$(READY_DEV): WORDS := what distill and its tests need
$(READY) $(READY_DEV): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c "import sys; assert $(SUPPORTED)" 2> /dev/null; then \
	  python=$$($(FIND_PYTHON)); \
	  if [ -z "$$python" ]; then \
	    echo "Found no Python 3.11, 3.12 or 3.13 that runs$(if $(UV),, and has venv) among: $(CALLED). Name one: make PYTHON=/path/to/python3.12" >&2; \
	    exit 2; \
	  fi; \
	  echo "interpreter:  $$python ($$("$$python" -V))"; \
	  rm -rf $(VENV); \
	  $(if $(UV),"$(UV)" venv -q --python "$$python" $(VENV),"$$python" -m venv $(VENV)); \
	  echo "environment:  $(CURDIR)/$(VENV), made with $(if $(UV),uv,venv)"; \
	fi
	@echo "packages:     $(WORDS), about 3 GB, with $(if $(UV),uv,pip); some minutes (tail -f $(LOG) shows each)"
	@started=$$SECONDS; \
	if ! $(if $(UV),"$(UV)" pip install --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off) \
	  -c constraints.txt -e "$(WHAT)" > $(LOG) 2>&1; then \
	  tail -n 40 $(LOG) >&2; \
	  echo "The installation failed; above is the end of $(CURDIR)/$(LOG). The same command tries again." >&2; \
	  exit 1; \
	fi; \
	echo "installed:    $$($(BIN)/python -c "from importlib.metadata import distributions; print(len(list(distributions())))") packages in $$((SECONDS - started)) s"
	@touch $(READY) $@
