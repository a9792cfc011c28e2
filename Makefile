# Every target sets itself up in a fresh clone: a virtual environment in .venv, installed with pinned versions.
PYTHON ?= python3
BIN := .venv/bin
CORE := .venv/.core
SETUP := .venv/.installed
INSTALL := $(BIN)/python -m pip install --quiet --prefer-binary --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: verify test experiments bench notebooks model lint clean

verify: $(CORE)
	$(BIN)/banach verify --html report.html

test: $(SETUP)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

experiments: $(SETUP)
	$(BIN)/python -m pytest -m slow

bench: $(SETUP)
	$(INSTALL) ".[bench]"
	$(BIN)/python -m benchmarks

notebooks: $(SETUP)
	$(BIN)/python notebooks/execute.py

model: $(SETUP)
	$(BIN)/banach model smollm2

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

# A stamp is written last: an interrupted set-up is done again, a finished one only when what it installed has changed.
$(CORE): pyproject.toml constraints.txt
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

$(SETUP): $(CORE)
	$(INSTALL) ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info report.html
