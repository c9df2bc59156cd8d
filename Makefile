# Start with `make demo` and `make test`. `make help` lists all targets.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -V >/dev/null 2>&1 && echo $$p && exit; done; echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
# Without .pyc files, the imports of every task take five times as long.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

# Checked before pip runs, whose own messages would mislead: requirements.lock is tested on one Python
# version, and Debian's python3 cannot make virtual environments without another package.
CHECK := import sys; \
  sys.version_info[:2] == (3, 11) or sys.exit("Python 3.11 is needed, this is " + \
    sys.version.split()[0] + ". To use another one: make PYTHON=/path/to/python3.11 ..."); \
  import importlib.util; importlib.util.find_spec("ensurepip") or sys.exit( \
    "This Python cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3.11-venv")

.DEFAULT_GOAL := help

help:  ## list all targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-22s %s\n", $$1, $$2}'

install: $(VENV)/.installed  ## install requirements.lock into the virtual environment .venv

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c '$(CHECK)' || { echo "$(VENV) was made with another Python: remove it and try again"; exit 1; }
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: install  ## render a small platform, process three days with a real Airflow, publish a release
	$(BIN)/python -m simulation.demo

ui: install  ## start the Airflow UI on what the demo ran; Ctrl-C stops it
	DEBCM_CONFIG=simulation/demo.toml $(BIN)/debcm ui

test: install  ## run the tests
	$(BIN)/pytest -n 2 -m "not slow and not services and not faults"

test-slow: install  ## run the long tests: fuzzing, long trainings, whole nights, the tutorial
	$(BIN)/pytest -m slow

test-services: install  ## run the tests with PostgreSQL, Redis and S3; installs and starts them on loopback
	sh tests/services/packages.sh
	$(BIN)/pytest -m services

faults: install  ## inject faults and write docs/reliability.md
	$(BIN)/pytest -m faults

lint: install  ## check style and types with ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install  ## generate the pages of docs/ that come from the code
	$(BIN)/python -m tools.docs_pages

lock: install  ## renew requirements.lock from pyproject.toml
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install '.[postgres,celery,s3,lancedb,benchmarks,services,dev]'
	build/lock/bin/pip check
	echo '# Exact versions, tested together. Renew with: make lock' > requirements.lock
	build/lock/bin/pip freeze --exclude debcm-pipeline | sed 's/+cpu$$//' >> requirements.lock
	rm -rf build/lock

benchmark-%: install  ## run a benchmark: debiasing, robustness, training, features, extraction, serving, scale
	$(BIN)/python -m benchmarks.$*

clean:  ## remove what the demo wrote, including Airflow's database and logs
	rm -rf demo .airflow

.PHONY: help install demo ui test test-slow test-services faults lint docs lock clean
