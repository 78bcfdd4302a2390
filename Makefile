# The two commands of a newcomer are `make launch` and `make test`; each sets up what it needs.
PYTHON ?= python3
ARGS ?=
ARR := .venv/bin/python CLI/cli.py
IMAGE_PINS := Stack/arr-pytorch-base/requirements-cpu.txt Stack/arr-ml-stack/requirements.txt
LAUNCHER_PINS := Stack/arr-vertex-launcher/requirements.txt
# Debian packages that only the tests need: a second engine, a peer for the registry, a small shell.
TEST_PACKAGES := docker.io skopeo busybox-static

.PHONY: launch test lint bench bench-relevance setup clean

launch: .venv/.ready
	@$(ARR) doctor --mend --quiet
	@$(ARR) launch $(ARGS)

setup: .venv/.ready
	@$(ARR) doctor --mend

test: .venv/.ready-for-tests .venv-launcher/.ready lint
	@$(ARR) doctor --mend --quiet --also "$(TEST_PACKAGES)"
	@.venv/bin/python -m pytest $(ARGS)

lint: .venv/.ready-for-tests
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

# What the benchmarks of docs/benchmarks.md measure; each prints a table of ratios.
bench: .venv/.ready-for-tests
	@$(ARR) doctor --mend --quiet --also "$(TEST_PACKAGES)"
	@.venv/bin/python benchmarks/noop.py
	@.venv/bin/python benchmarks/code_change.py

# Every way of choosing visual tokens, on equal terms (docs/relevance.md). Two hours on two cores; a
# run that was ended goes on.
bench-relevance: .venv/.ready-for-tests
	@.venv/bin/python benchmarks/relevance.py
	@.venv/bin/python benchmarks/signals.py
	@.venv/bin/python benchmarks/relevance_page.py
	@.venv/bin/python benchmarks/relevance_cost.py --json benchmarks/results/relevance_cost.json

.venv/.ready: pyproject.toml scripts/bootstrap
	@PYTHON=$(PYTHON) scripts/bootstrap .
	@touch $@

# The tests of ARR_COC run on the very versions that are in the images.
.venv/.ready-for-tests: .venv/.ready $(IMAGE_PINS)
	@PYTHON=$(PYTHON) scripts/bootstrap .[dev]
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(IMAGE_PINS:%=--requirement %)
	@touch $@

# The tests of the launcher run the very agent that is in its image.
.venv-launcher/.ready: $(LAUNCHER_PINS) | .venv/.ready
	@$(PYTHON) -m venv --clear .venv-launcher
	@.venv-launcher/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $(LAUNCHER_PINS)
	@touch $@

clean:
	rm -rf .venv .venv-launcher .mypy_cache .ruff_cache .pytest_cache .hypothesis
