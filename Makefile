# Each target does its own set-up in .venv, once, and works without a network after that. Needs only Python and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: example test docs lint format clean

example: $(VENV)/installed
	$(RUN) -m mvsd example --out example-output --force

test: $(VENV)/installed-test
	$(RUN) -m pytest -n auto

docs: $(VENV)/installed-docs
	$(RUN) -m mkdocs build --strict

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check --quiet .
	$(RUN) -m mypy

format: $(VENV)/installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf $(VENV) example-output site

# A stamp is newer than pyproject.toml when nothing is to be installed. A larger installation stands for the smaller ones.
$(VENV)/installed: EXTRAS =
$(VENV)/installed-docs: EXTRAS = [docs]
$(VENV)/installed-test: EXTRAS = [test]
$(VENV)/installed-dev: EXTRAS = [dev]
$(VENV)/installed-docs: SMALLER = $(VENV)/installed
$(VENV)/installed-test: SMALLER = $(VENV)/installed $(VENV)/installed-docs
$(VENV)/installed-dev: SMALLER = $(VENV)/installed $(VENV)/installed-docs $(VENV)/installed-test

$(VENV)/installed $(VENV)/installed-docs $(VENV)/installed-test $(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing mvsd$(EXTRAS) into $(VENV); this takes some minutes, once."
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@ $(SMALLER)

# Without pip, as Debian's python3 leaves it when python3-venv is missing, the environment is made again next time.
$(VENV)/bin/pip:
	$(PYTHON) -m venv --clear $(VENV)
