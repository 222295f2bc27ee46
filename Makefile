# Two commands: `make demo` and `make test`. Both need Python 3.11 or newer, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread per test process: they share the cores. GPUs are hidden: the tests are about the CPU.
PYTEST := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
DAILY := -n 2 --dist worksteal -m "not slow and not fuzz"

.PHONY: demo test test-fast test-slow test-lowest fuzz lint format readme speed docs clean

demo: $(VENV)/installed
	$(BIN)/srfgan demo

test: lint
	$(PYTEST) $(DAILY)

# On every save: under a minute on two cores.
test-fast: $(VENV)/installed-dev
	$(PYTEST) -n 2 -m fast

test-slow: $(VENV)/installed-dev
	$(PYTEST) -m slow

# With the lowest versions that are allowed, in an environment of its own. Without one case: on maps this small torch 2.11
# holds less than later versions where nothing is recomputed, so that recomputing saves 13 % instead of 30.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install -q -c constraints-lowest.txt -e '.[dev,export]'
	$(subst $(BIN),$(VENV)-lowest/bin,$(PYTEST)) $(DAILY) \
		--deselect 'tests/training/test_recomputation.py::test_a_stage_holds_less[extract-bf16]'

fuzz: $(VENV)/installed-dev
	$(PYTEST) -n 2 -m fuzz

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The site, into site/; `mkdocs serve` shows it while you write.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# The table that the documents have from the code, and the list of presets.
readme: $(VENV)/installed-dev
	$(BIN)/python tests/test_docs.py

# Ours beside torchvision's on this machine, into docs/speed.md; minutes in which it should do nothing else.
speed: $(VENV)/installed-dev
	$(BIN)/python benchmarks/speed.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "srfgan needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,export]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) $(VENV)-lowest .mypy_cache .ruff_cache .pytest_cache
