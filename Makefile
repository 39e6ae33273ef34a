# What people type and what CI runs. Set-up happens by itself: system packages by apt (as root or with sudo), the rest in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEER := $(VENV)/.peer
PYTEST_ARGS ?=
BENCH_ARGS ?=
FAULTS_ARGS ?=

.PHONY: help demo test check transcripts kills bench crowd faults size clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(STAMP)  ## Watch an update survive a broken line, from MQTT message to new version
	$(BIN)/gatewayctl demo

test: $(STAMP) system-packages  ## All tests, with a real mosquitto and the compiled C receiver
	$(MAKE) -C device all lab
	PATH="$$PATH:/usr/sbin:/sbin" $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)  ## Linters, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) system-packages  ## Speed and cost of everything, into build/bench.json (20 minutes; BENCH_ARGS=--quick)
	$(MAKE) -C device
	@$(MAKE) --no-print-directory $(PEER) || echo "gatewayd: the bench will run without its peer"
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH_ARGS)

crowd: $(STAMP) system-packages  ## What 7 bad devices cost 25 healthy ones, with goals (half a minute)
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python tests/bench_crowd.py

transcripts: $(STAMP) system-packages  ## Record the terminal sessions in docs/operations.md anew (half a minute)
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python tests/transcripts.py

kills: $(STAMP) system-packages  ## SIGKILL at 50 random moments of updates, with each receiver (four minutes)
	$(MAKE) -C device
	GATEWAYD_KILLS=50 $(BIN)/python -m pytest tests/e2e/test_interruptions.py -k random_moments --timeout 900

faults: $(STAMP) system-packages  ## ENOSPC and EIO at each write of the store, with a table (two minutes)
	PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS_ARGS)

size: system-packages  ## Code, RAM and stack of the C receiver on a Cortex-M0
	$(MAKE) -C device size

clean:  ## Remove what was built, and the virtual environment
	rm -rf $(VENV) build dist device/build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: system-packages
system-packages:
	@./.ci/packages test

# What the bench compares with. It can do without: the table then says what is missing.
$(PEER): $(STAMP)
	@./.ci/packages bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@

$(STAMP): pyproject.toml
	@./.ci/packages venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
