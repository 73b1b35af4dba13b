# make demo   the main job: three robot tasks learned, forgotten and kept; then a report
# make test   ruff, mypy and pytest
# make bench  speed, ours beside the peers
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/crl demo

test: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: .venv/installed
	$(BIN)/crl bench

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "crl needs Python 3.10 or newer; type: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
