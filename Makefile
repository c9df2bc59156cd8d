# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -V >/dev/null 2>&1 && echo $$p && exit; done; echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
# No .pyc files would make every task's imports five times as slow.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

# A test that hangs in native code hears no alarm (pytest-timeout): end its process, with its stacks.
NO_HANG := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

# requirements.lock is tested on one version, and Debian's python3 comes without what makes a
# virtual environment: each said before pip says something else.
CHECK := import sys; \
  sys.version_info[:2] == (3, 11) or sys.exit("Python 3.11 is needed, this is " + \
    sys.version.split()[0] + ". Where 3.11 is elsewhere: make PYTHON=/path/to/python3.11 ..."); \
  import importlib.util; importlib.util.find_spec("ensurepip") or sys.exit( \
    "This Python cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3.11-venv")

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-22s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## make the virtual environment from requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c '$(CHECK)' || { echo "$(VENV) is of another Python: remove it"; exit 1; }
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: install  ## render a small world, run three nights of a real Airflow, publish a release
	$(BIN)/python -m simulation.demo

ui: install  ## the Airflow UI on what the demo ran; Ctrl-C stops it
	DEBCM_CONFIG=simulation/demo.toml $(BIN)/debcm ui

test: install  ## the test suite
	$(BIN)/pytest -n 2 -m "not slow and not services and not faults" $(NO_HANG)

test-slow: install  ## the long half of the tests: fuzzing, long trainings
	$(BIN)/pytest -m slow

test-services: install  ## PostgreSQL, Redis, S3: installs and starts what it needs on loopback
	sh tests/services/packages.sh
	$(BIN)/pytest -m services

faults: install  ## inject faults for real and write docs/reliability.md
	$(BIN)/pytest -m faults

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install  ## generate the pages that come from the code
	$(BIN)/python -m tools.docs_pages

lock: install  ## renew requirements.lock from pyproject.toml
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install '.[postgres,celery,s3,lancedb,benchmarks,services,dev]'
	build/lock/bin/pip check
	echo '# Exact versions, tested together. Renew with: make lock' > requirements.lock
	build/lock/bin/pip freeze --exclude debcm-pipeline | sed 's/+cpu$$//' >> requirements.lock
	rm -rf build/lock

benchmark-%: install  ## debiasing, robustness, training, features, extraction, serving, scale
	$(BIN)/python -m benchmarks.$*

clean:  ## remove what the demo made, Airflow's database and logs included
	rm -rf demo .airflow

.PHONY: help install demo ui test test-slow test-services faults lint docs lock clean
