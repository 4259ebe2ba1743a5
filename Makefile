# Needs Python 3.11 or newer with its venv module, and make. Everything else is installed into .venv.
#   make serve      run the daemon with the example tenants.yaml, on http://localhost:3000
#   make test       run all checks and tests: lint, types, import rules, tests
# Another Python: make PYTHON=/opt/python3.13/bin/python3 serve

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help serve test test-fast cache-tests torture check bench wheel dist gem lock fix clean

help:
	@sed -n 's/^#   //p' Makefile

# .venv/bin comes first, so that the example runs on the Python of .venv
serve: .venv/.serve
	PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/flyatc serve

# The tests start hundreds of daemons: bytecode is written even if the environment forbids it. They wait twice as long as
# they compute, hence four workers more than there are cores. tests/distribution.py says what each worker gets.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest
WORKERS = -n $$(($$(nproc) + 4))

test: .venv/.dev
	@$(MAKE) --no-print-directory -j2 check compile-tests
	$(PYTEST) $(WORKERS)

# Otherwise each worker compiles all tests of a fresh checkout. Errors in them are reported by the run
.PHONY: compile-tests
compile-tests: .venv/.dev
	@-$(PYTEST) --collect-only -qqq >/dev/null 2>&1

#   make test-fast  run the tests without processes and network, in half a minute
test-fast: .venv/.dev
	$(PYTEST) $(WORKERS) tests/pure tests/story

#   make cache-tests  run the public tests of HTTP caches, which npm fetches, and print how many pass
cache-tests: .venv/.dev
	$(BIN)/pytest -s tests/whole/test_cache_suite.py

#   make torture    run the fault injection, twenty times in each mode (60 minutes); make torture SEED=7 MODE=snapshot, litestream or sim
torture: .venv/.dev
	PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m torture.run $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE)) $(ARGS)

#   make check      check lint, types and import rules, without the tests
check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports --no-logo

#   make bench      measure flyatc beside nginx, HAProxy and Caddy (see bench/README.md); make bench ARGS=--quick
bench: .venv/.serve
	$(BIN)/python bench/run.py $(ARGS)

#   make wheel      build dist/flyatc-VERSION-py3-none-any.whl, to install on another machine
wheel: .venv/.dev
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

#   make dist       build dist/flyatc, a folder with its own Python for any place and any Linux with glibc, and its archive
dist: .venv/.dist
	mkdir -p dist
	$(BIN)/python .ci/packaging/build.py dist

#   make gem        build a gem of that folder, in thruster's place
gem: dist
	$(BIN)/python .ci/packaging/build.py dist gem

#   make lock       update the locks to the newest versions within the ranges of pyproject.toml, once a week: make lock test,
#                   commit both files. After a change of pyproject.toml: make lock KEEP=1 test, which keeps all other versions
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command "make lock" $(if $(KEEP),,--upgrade)

lock: | $(BIN)/pip
	$(INSTALL) 'uv>=0.9,<1'
	$(LOCK) --group dev --output-file tests/requirements.lock
	$(LOCK) --group build --constraint tests/requirements.lock --output-file tests/requirements-serve.lock
	$(LOCK) --group dist --constraint tests/requirements.lock --output-file tests/requirements-dist.lock

#   make fix        have ruff repair and format
fix: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

#   make clean      remove .venv and caches; never data or store
clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
	find src tests examples bench -name __pycache__ -prune -exec rm -rf {} +

# venv creates pip last: if it is missing, an earlier attempt has failed
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or run make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# Install exactly the locked versions, the build backend included, and then flyatc itself without dependencies. The stamp
# files skip the installation in later runs.
.venv/.serve: pyproject.toml tests/requirements-serve.lock | $(BIN)/pip
	$(INSTALL) --require-hashes -r tests/requirements-serve.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dist: pyproject.toml tests/requirements-dist.lock | $(BIN)/pip
	$(INSTALL) --require-hashes -r tests/requirements-dist.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch .venv/.serve $@

# pip takes ten times as long as uv, which it installs first; and does it all where uv fails, as with an index of pip's own
.venv/.dev: pyproject.toml tests/requirements.lock | $(BIN)/pip
	sed -n '/^uv==/,/[^\\]$$/p' tests/requirements.lock >.venv/uv.lock
	$(INSTALL) --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --link-mode copy --compile-bytecode \
	  --require-hashes -r tests/requirements.lock || $(INSTALL) --require-hashes -r tests/requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch .venv/.serve .venv/.dist $@
