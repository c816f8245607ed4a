# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
GOLDEN := $(shell grep -rl update-golden tests --include="test_*.py")

.DEFAULT_GOAL := help
.PHONY: help demo test lint format golden wheel bench clean

help:            ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"fleetsim needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

demo: $(VENV)/.run   ## Set up, replay the bundled sample and show who used what
	$(BIN)/fleetsim run philly-small --output runs/demo --force --quiet
	$(BIN)/fleetsim show runs/demo

test: $(VENV)/.dev   ## Set up and pass every check: lint, types, import contracts, tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(VENV)/.dev   ## Format the code and sort imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

golden: $(VENV)/.dev   ## Rewrite the golden files from today's output (then read the diff)
	$(BIN)/python -m pytest -q --update-golden $(GOLDEN)

wheel: $(VENV)/.dev   ## Build the source archive and the wheel
	$(BIN)/python -m build --outdir dist

bench: $(VENV)/.dev   ## Time a replay of 100,000 jobs against its floor
	$(BIN)/python tests/bench/replay.py --jobs 100000 --gpus 2504

clean:           ## Remove the environment and everything built
	rm -rf $(VENV) dist build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
