# Five words to remember: demo, test, lint, bench, and test-slow for the patient.
PYTHON ?= python3
BIN := .venv/bin
# Images of containers like to forbid these files; every process then compiles torch and all else anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint bench install

demo: install
	$(BIN)/vitpareto search digits --resume

# One process a core, up to four (tests/conftest.py); who has no more to do takes from another.
test: install
	$(BIN)/pytest -q -n auto --dist worksteal

# Whose tests would be skipped otherwise: a shared storage, and training over processes.
test-slow: install
	$(BIN)/python -m pip install --quiet --editable '.[cluster,train]'
	$(BIN)/pytest -q -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: install
	$(BIN)/python -m tests.bench

install: .venv/installed

# `pip install --group` needs pip 25.1; the environment brings whatever pip Python ships. What is never
# imported is not compiled: of 18,000 files most.
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --no-compile --editable '.[search]' --group dev
	touch $@
