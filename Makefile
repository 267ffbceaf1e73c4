# Every command a newcomer or contributor needs. `make` alone lists them.
#
# PYTHON names the interpreter that .venv is made with:  make quickstart PYTHON=/opt/python3.12/bin/python
# ARGS goes to pytest:                                    make test ARGS="tests/models -x"

UV := $(shell command -v uv)
PYTHON ?= $(shell \
	for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do \
		if $$candidate -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; \
		then echo $$candidate; break; fi; \
	done)
BIN := .venv/bin
# Where this is set, every process compiles torch, Ray and MLflow again: seconds for each command and worker.
unexport PYTHONDONTWRITEBYTECODE
NO_PYTHON := mgstudy needs Python 3.11 to 3.14 with its venv module, and none was found. \
	Install one (Debian, Ubuntu: apt install python3-venv; or uv, which fetches one) or name it: \
	make PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z -]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Set-up happens when it has never happened, or when what it depends on has changed.

QUIETLY = > .venv/install.log 2>&1 || { tail -n 30 .venv/install.log >&2; exit 1; }

# Where uv is installed it makes and fills .venv, and finds or fetches a fitting Python; else pip does.
ifdef UV
.venv/.created:
	uv venv --quiet --allow-existing $(addprefix --python ,$(or $(PYTHON),3.12)) .venv
	@touch $@
PIP = uv pip install --python $(BIN)/python
else
.venv/.created:
	$(if $(PYTHON),,$(error $(NO_PYTHON)))
	$(PYTHON) -m venv .venv
	@touch $@
PIP = $(BIN)/python -m pip install --no-compile --progress-bar off
# Older ones know no dependency groups.
NEW_PIP = $(BIN)/python -m pip install --upgrade 'pip>=25.1' $(QUIETLY)
endif

# A fresh set-up fetches more than a hundred packages: the details matter only when it fails, and most
# of their modules are never imported, so that Python compiles those that are when they are.
INSTALL = $(PIP) --constraint constraints.txt --editable .

.venv/.installed: .venv/.created pyproject.toml constraints.txt
	@echo "Installing mgstudy into .venv (the first time takes minutes: it fetches PyTorch, Ray and MLflow)"
	@$(NEW_PIP)
	@$(INSTALL) $(QUIETLY)
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing what the tests and checks need into .venv"
	@$(INSTALL) --group dev $(QUIETLY)
	@touch $@

.PHONY: install
install: .venv/.installed  ## Install mgstudy into .venv

.PHONY: dev
dev: .venv/.installed-dev  ## Install mgstudy into .venv with what contributing needs

.PHONY: quickstart
quickstart: install  ## Run a small study on synthetic data, from nothing to its table
	$(BIN)/mgstudy quickstart
	@printf '%s\n' '  source .venv/bin/activate                     has these commands at hand'

.PHONY: test
ifdef ARGS
test: dev
	$(BIN)/python -m pytest $(ARGS)
else
test: dev  ## Run the tests; ARGS="tests/models -x" for some of them
	@$(MAKE) --no-print-directory --jobs 1 test-fast test-integration
endif

.PHONY: test-fast
test-fast: dev  ## Run the tests that start no Ray, no server, no browser and no other program
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not integration" -n 2 --dist loadscope

# Those that take longest come first: at the end, no process has to wait for another's.
MARKED = $(sort $(shell grep -rl --include='test_*.py' 'mark\.integration' tests))
LONG = tests/fuzz/% tests/integration/% tests/tracking/%

.PHONY: test-integration
test-integration: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m integration -n 2 --dist loadfile --no-loadscope-reorder \
		$(filter $(LONG),$(MARKED)) $(filter-out $(LONG),$(MARKED))

# What uv alone does: choosing versions that nobody has installed.
NEED_UV = $(if $(UV),,$(error this needs uv, see https://docs.astral.sh/uv))

.PHONY: constraints
constraints:  ## Make constraints.txt anew for pyproject.toml; ARGS=--upgrade takes newer versions (needs uv)
	$(NEED_UV)
	header="$$(grep '^#' constraints.txt)" && uv pip compile --quiet --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-header --no-annotate $(ARGS) \
		pyproject.toml --group dev --output-file constraints.txt > /dev/null && \
	pins="$$(sed 's/+cpu$$//' constraints.txt)" && printf '%s\n\n%s\n' "$$header" "$$pins" > constraints.txt

# The ranges of pyproject.toml, at both ends. The lowest versions have wheels for the lowest Python alone, the newest of
# NumPy and SciPy only for later ones: those take the newest Python that is here, or that PYTHON names.
# A variable, since a comma would end the argument of `or`.
SUPPORTED = >=3.11,<3.15
.PHONY: test-lowest test-newest
test-lowest: RESOLUTION = lowest-direct
test-lowest: VERSION = 3.11
test-newest: RESOLUTION = highest
test-newest: VERSION = $(or $(PYTHON),$(SUPPORTED))
test-lowest test-newest:  ## Run test-fast with the lowest, or the newest, versions that pyproject.toml allows
	$(NEED_UV)
	uv venv --quiet --allow-existing --python '$(VERSION)' .$@
	uv pip install --quiet --python .$@ --resolution $(RESOLUTION) --editable . --group dev
	OMP_NUM_THREADS=1 .$@/bin/python -m pytest -m "not integration" -n 2 --dist loadscope $(ARGS)

.PHONY: package
package: dev  ## Build the wheel and the source distribution, in dist
	rm -rf dist
	$(BIN)/python -m build --quiet

MINUTES ?= 60

.PHONY: soak
soak: dev  ## Kill studies for an hour (MINUTES=60) and compare them with undisturbed ones
	$(BIN)/python tests/integration/soak.py --minutes $(MINUTES)

.PHONY: bench-smoke
bench-smoke: dev  ## See whether commands, epochs or validations have become a third slower (two minutes)
	$(BIN)/python benchmarks/smoke.py

INPUTS ?= 5000

.PHONY: fuzz
fuzz: dev  ## Give malformed inputs to every command (INPUTS=5000), and say which are met badly
	$(BIN)/python tests/fuzz/run.py --inputs $(INPUTS)

.PHONY: lint
lint: dev
	$(BIN)/ruff check .

# What is no Python: workflows, the image, scripts. Their linters are installed on Linux only.
.PHONY: lint-files
lint-files: dev
ifeq ($(shell uname -s),Linux)
	$(BIN)/actionlint
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run deploy/*.sh
endif

.PHONY: format-check
format-check: dev
	$(BIN)/ruff format --check .

.PHONY: types
types: dev
	$(BIN)/mypy

.PHONY: check
check: lint lint-files format-check types  ## Lint, formatting and types, as continuous integration does

.PHONY: docs
docs: dev  ## Build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

.PHONY: docs-serve
docs-serve: dev  ## Show the documentation as a site while it is written
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

.PHONY: format
format: dev  ## Repair lint and formatting where that is automatic
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## Remove .venv and caches; studies and their results stay
	rm -rf .venv .test-lowest .test-newest .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
