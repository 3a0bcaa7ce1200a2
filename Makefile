# Needs make and Python 3.11 or later; everything else is installed into .venv, pinned with hashes by constraints.txt.

PYTHON ?= python3
# More than there may be cores: tests wait for processes and disks more than they compute.
WORKERS ?= 3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CLIENTS := tests/clients
PUBLISHED := $(VENV)/published

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test check bench constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/setup ## Make .venv with what the server needs
	@$(BIN)/python -m compileall -q src

run: setup ## Serve on SQLite, and take mail on port 2525 (ARGS="--port 8080")
	$(BIN)/sessiond serve --smtp-port 2525 $(ARGS)

# pytest keeps the tests as it compiled them, whatever the environment says of such files: to compile them anew takes each
# of its processes 8 s.
test: setup $(VENV)/dev $(PUBLISHED)/.unpacked $(CLIENTS)/node_modules/.installed check ## Check, then run all tests (ARGS="-k runs", ARGS=--cov)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --reruns 2 $(ARGS)

check: setup $(VENV)/dev ## Lint, formatting, types, and the floors of the house
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup $(VENV)/dev ## Measure what we claim about speed (ARGS="runs")
	$(BIN)/python -m bench $(ARGS)

constraints: ## Pin everything anew, to the newest versions, in constraints.txt
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/pip install --disable-pip-version-check --quiet uv
	$(VENV)/uv/bin/uv pip compile pyproject.toml --all-extras --group setup --group dev --universal --python-version 3.11 \
		--generate-hashes --upgrade --system-certs --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
		--output-file constraints.txt

clean: ## Remove all that was made here, .venv too
	rm -rf $(VENV) $(CLIENTS)/node_modules build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache \
		.pytest_cache .ruff_cache .import_linter_cache .schemathesis
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sessiond needs Python 3.11 or later")'
	$(PYTHON) -m venv --clear $(VENV)

# An editable project has no file to hash, so pip refuses it together with hashes. Hence three steps: the newer pip and
# the build backend; the dependencies, each hash checked; the project alone.
# Compiled by hand because PYTHONDONTWRITEBYTECODE would make every worker process compile its imports again.
$(VENV)/setup: pyproject.toml constraints.txt | $(BIN)/python
	awk '/^[^ ]/ { wanted = /^(pip|flit-core)==/ } wanted' constraints.txt > $(VENV)/setup.txt
	$(PIP) install --require-hashes --requirement $(VENV)/setup.txt
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		wanted = [project["dependencies"], *map(project["optional-dependencies"].get, ("cli", "server", "postgres"))]; \
		print(*(each for part in wanted for each in part if not each.startswith("sessiond")), sep="\n")' > $(VENV)/runtime.txt
	$(PIP) install --require-hashes --constraint constraints.txt --requirement $(VENV)/runtime.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q $(VENV)/lib
	@touch $@

$(VENV)/dev: $(VENV)/setup
	$(PIP) install --require-hashes --constraint constraints.txt --group dev
	$(BIN)/python -m compileall -q $(VENV)/lib
	@touch $@

# The OpenAI Agents SDK publishes its tests with its source, which nothing else here needs. pip checks the source's hash,
# and has hatchling make its metadata: that of the dev group, so that nothing is fetched which is not pinned.
$(PUBLISHED)/.unpacked: $(VENV)/dev
	rm -rf $(PUBLISHED) && mkdir $(PUBLISHED)
	awk '/^[^ ]/ { wanted = /^openai-agents==/ } wanted' constraints.txt > $(PUBLISHED)/source.txt
	$(PIP) download --require-hashes --no-deps --no-binary :all: --no-build-isolation --dest $(PUBLISHED) \
		--requirement $(PUBLISHED)/source.txt
	tar -xzf $(PUBLISHED)/openai_agents-*.tar.gz -C $(PUBLISHED) --strip-components 1
	@touch $@

# Node.js brings its own list of certificate authorities; pip and the rest trust the machine's.
$(CLIENTS)/node_modules/.installed: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json $(VENV)/dev
	NODE_USE_SYSTEM_CA=1 $(BIN)/npm --prefix $(CLIENTS) ci --ignore-scripts --no-audit --no-fund --no-update-notifier
	@touch $@
