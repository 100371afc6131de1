# Two commands do everything from a bare clone: make quickstart, make test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup quickstart samples test chaos faults fuzz lint format schema wheel runtime-wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## make the environment in .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "AICore needs Python 3.11 or newer; found %d.%d. Set PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo 'Setting up $(VENV): 6 GB of packages; some minutes without a word, a quarter of an hour on a slow line.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

samples: $(READY)  ## draw the sample pictures into data/samples
	$(BIN)/python -m dao.samples --out data/samples

quickstart: samples  ## train, evaluate, export and show a small model on the sample pictures
	$(BIN)/python -m dao.commands.quickstart

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

chaos: $(READY)  ## eighty random kills, full disks and torn checkpoints; takes half an hour
	$(BIN)/python tests/chaos/chaos.py --kills 50
	$(BIN)/python tests/chaos/chaos.py --kills 20 --task efficient_ad
	$(BIN)/python tests/chaos/chaos.py --kills 10 --task patchcore

faults: $(READY)  ## fail, and kill at, file operations of small runs of every task, drawn by chance; an hour, or SECONDS=n
	$(BIN)/python tests/faults/faults.py --seconds $(or $(SECONDS),3600)

fuzz: $(READY)  ## damage every kind of file from elsewhere; an hour, or SECONDS=n
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),3600) $(if $(TRIES),--tries $(TRIES))

lint: $(READY)  ## what CI and pre-commit check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY)  ## mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(READY)  ## write configs/schema.json anew, after a signature changed
	$(BIN)/python main.py --schema > configs/schema.json.new && mv configs/schema.json.new configs/schema.json

wheel: $(READY)  ## build dist/aicore-*.whl
	$(BIN)/python -m build --wheel

runtime-wheel: $(READY)  ## build dist/aicore_runtime-*.whl, which answers with exported files and needs no torch
	rm -rf build/runtime
	$(BIN)/python runtime_wheel/stage.py build/runtime
	$(BIN)/python -m build --wheel --outdir dist build/runtime

clean:  ## remove the environment and build products; never data or runs
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
