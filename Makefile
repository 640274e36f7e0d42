# Two commands are enough: `make demo` and `make test`. Both make .venv when it is missing.
PYTHON   ?= python3
VENV     ?= .venv
PIP_ARGS ?=
NEWEST   ?=
NODES    ?= 4
LANES    ?=
BIN      := $(VENV)/bin
INSTALL  := $(BIN)/python deps/install.py
export PIP_ARGS NEWEST
export HPC_TEST_LANES := $(or $(LANES),$(HPC_TEST_LANES))

.PHONY: help demo test schedulers lint types bench docs constraints clean

help:
	@echo "make demo    install into $(VENV) and train a model on $(NODES) local nodes"
	@echo "make test    install and run all tests that this machine can run, but for the next"
	@echo "make schedulers    the tests on real schedulers, started here: Slurm, PBS, YARN, as far as they are installed"
	@echo "make lint types    ruff, import rules, mypy"
	@echo "make bench   all figures, beside Ray, Dask, Parsl and concurrent.futures (QUICK=1: three minutes)"
	@echo "make constraints    the newest versions become those that all of these install"
	@echo "options: PYTHON=python3.12  VENV=dir  PIP_ARGS='--index-url ...'  NEWEST=1 (not the versions of deps/constraints.txt)"
	@echo "         LANES=1 (all tests in one process, as a debugger needs it)"

# A Python that has torch already (a module on a cluster) lends it to the venv: nothing is downloaded again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "hpc needs Python 3.10 or newer; PYTHON=... names one ($(PYTHON) is older)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $$($(PYTHON) -c 'import importlib.util as u; print("--system-site-packages" if u.find_spec("torch") else "")') $(VENV)

$(VENV)/.hpc: $(BIN)/python pyproject.toml deps/constraints.txt
	$(INSTALL)
	@touch $@

$(VENV)/.demo: $(VENV)/.hpc
	$(INSTALL) demo
	@touch $@

$(VENV)/.test: $(VENV)/.hpc
	$(INSTALL) test
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) dev
	@touch $@

$(VENV)/.bench: $(VENV)/.hpc
	$(INSTALL) bench
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/hpc-launch --nodes $(NODES) examples/train_digits.py

test: $(VENV)/.test
	$(BIN)/python tests/lanes.py $(if $(PYTEST_ARGS),$(PYTEST_ARGS),--ignore=tests/schedulers)

schedulers: $(VENV)/.test
	$(BIN)/python tests/lanes.py tests/schedulers $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/tidy/static.py imports

types: $(VENV)/.dev
	$(BIN)/python tests/tidy/static.py types

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(BENCH_ARGS)

constraints: $(VENV)/.hpc
	$(INSTALL) pins
	$(BIN)/python deps/renew.py

docs: $(VENV)/.hpc
	$(BIN)/python -m hpc.cli.manual > docs/cli.md
	$(BIN)/python docs/generate_limits.py
	$(BIN)/python docs/generate_metrics.py
	$(BIN)/python docs/generate_events.py
	$(BIN)/python docs/generate_sites.py
	$(BIN)/python docs/generate_tune.py
	$(BIN)/python docs/generate_data.py
	$(BIN)/python docs/generate_serve.py
	$(BIN)/python docs/generate_rllib.py
	$(BIN)/python docs/generate_api.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
