# Every target sets itself up in a fresh clone: a virtual environment in .venv, installed with pinned versions.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed

.PHONY: verify test experiments bench notebooks lint clean

verify: $(SETUP)
	$(BIN)/banach verify --html report.html

test: $(SETUP)
	$(BIN)/python -m pytest

experiments: $(SETUP)
	$(BIN)/python -m pytest -m slow

bench: $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m benchmarks

notebooks: $(SETUP)
	$(BIN)/python notebooks/execute.py

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

$(SETUP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
