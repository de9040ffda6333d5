# Everything runs in .venv, which the first command sets up and the others find ready.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEMO   ?= demo
JOBS   ?= $(shell nproc)

.PHONY: help setup demo test check format clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with everything the demo and the tests need

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev,faces]'
	touch $@

demo: $(STAMP)  ## make a corpus, build it, pre-train, fine-tune and evaluate (minutes on two cores)
	$(BIN)/python -m benchmarks.demo --output $(DEMO)

test: $(STAMP)  ## lint, types and every test that can run here
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS)

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the demo made (not .venv)
	rm -rf $(DEMO)
