# `make demo` and `make test` work on a fresh machine with Python, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TOREMI := $(VENV)/.toremi
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help install demo test test-all test-browser evidence evidence-quick gpu lint format clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY)  ## Make .venv and install toremi with everything the tests need
$(TOREMI): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	@touch $@
$(READY): $(TOREMI)
	$(PIP) --editable '.[dev,embed]'
	@touch $@

test: $(READY)  ## The tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow and not browser"

test-all: $(READY)  ## The tests and the long ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not browser"

test-browser: $(READY)  ## The tests of the pages in Chromium, installed through apt where it is missing
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null
	$(BIN)/python -m pytest -m browser

DEMO       := demo-out
DEMO_STEPS ?= 600
DEMO_TRAIN := --workdir $(DEMO) --context-length 128 --batch-size 8 --max-steps $(DEMO_STEPS) \
              --eval-every 25 --checkpoint-every 100

# Interrupt it at any moment: the next `make demo` goes on from there.
demo:  ## Real text and junk, topics, two trainings: what is drawn less, and what that buys
	@if $(MAKE) --question $(DEMO)/summary.txt 2>/dev/null; then echo "$(DEMO) is done (remove it to start again):"; \
	else $(MAKE) --no-print-directory $(DEMO)/summary.txt; fi
	@cat $(DEMO)/summary.txt

# Only the report knows which sources are prose and code: for the measure, not for the runs.
$(DEMO)/summary.txt: $(DEMO)/.harvested
	$(BIN)/toremi annotate $(DEMO)/corpus --workdir $(DEMO) --group-field group --holdout 0.1 --vocab-size 2048 \
	  --max-tokens 256 --num-topics 30
	$(BIN)/toremi pretrain --policy uniform $(DEMO_TRAIN)
	$(BIN)/toremi pretrain $(DEMO_TRAIN)
	$(BIN)/toremi eval uniform toremi --workdir $(DEMO) --topics none > $(DEMO)/eval.txt
	$(BIN)/toremi report uniform toremi --workdir $(DEMO) -o $(DEMO)/report.html \
	  --sources "$$($(BIN)/python -m examples.harvest_corpus --list)" > $@.partial
	@echo "figures over seeds: docs/results.md; this run as a page: $(DEMO)/report.html" >> $@.partial
	@echo "your own corpus: toremi annotate CORPUS && toremi pretrain" >> $@.partial
	@mv $@.partial $@

$(DEMO)/.harvested: $(wildcard examples/harvest_corpus/*.py) $(TOREMI)
	$(BIN)/python -m examples.harvest_corpus $(DEMO)/corpus --megabytes 2.5
	@touch $@

EVIDENCE := evidence-out

evidence: $(READY)  ## The whole grid, about 700 training runs; DOMAINS=DIR and JUNK=DIR name what is mixed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.evidence --preset cpu --out $(EVIDENCE)/cpu $(addprefix --domains ,$(DOMAINS)) $(addprefix --junk ,$(JUNK))

evidence-quick: $(READY)  ## A small grid on the demo's text: 8 short runs
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.evidence --preset quick --out $(EVIDENCE)/quick

gpu: $(READY)  ## What only a GPU can show of the trainer, in ten minutes: gpu-out/gpu.md
	$(BIN)/python -m benchmarks.gpu

lint: $(READY)  ## Style, format, types and the length of pages and sentences
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.docs_style

format: $(READY)  ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what the build and the demo wrote
	rm -rf $(VENV) demo-out evidence-out gpu-out build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
