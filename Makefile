# Everything a newcomer types. Nothing here needs root, a server or an account; bench-proxy leaves out what it lacks.
.DEFAULT_GOAL := help
.PHONY: help demo test clients test-clients test-fast fast check bench bench-ramps bench-proxy soak fmt cover mutate lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := tests/clients/node
CLIENTS := .venv-clients
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.run  ## play an outage on this machine and watch traffic survive it
	@$(BIN)/pointsman demo $(DEMO)

test: $(VENV)/.test  ## run every test (real Valkey, real HTTP, real TLS, real processes)
	$(BIN)/pytest -n 2 --dist loadgroup --ignore tests/clients tests $(TEST)

clients: $(NODE)/node_modules/.stamp $(CLIENTS)/.stamp

test-clients: clients $(VENV)/.test  ## what real clients get through the proxy, beside what they get without it
	$(BIN)/pytest tests/clients $(TEST)

cover: $(VENV)/.test  ## branch coverage of the core; fails under 100 %
	$(BIN)/coverage run -m pytest -q tests/core tests/scenarios
	$(BIN)/coverage report

check: $(VENV)/.check  ## format, lint, types, import layers, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/sizes.py

mutate: $(VENV)/.test  ## plant bugs in the core and count how many the tests catch
	$(BIN)/python tools/mutate.py $(MUTATE)

fast: $(VENV)/.check  ## compile the path of a request into .fast (needs a C compiler)
	$(BIN)/python tools/compile.py .fast
	@echo "done: PYTHONPATH=.fast $(BIN)/pointsman proxy --config ..."

test-fast: fast  ## run the proxy's tests on what was compiled
	PYTHONPATH=.fast $(BIN)/pytest -n 2 --dist loadgroup tests/proxy $(TEST)

bench: $(VENV)/.test  ## measure; prints ratios within one run and writes bench/out/*.json
	$(BIN)/python -m bench $(BENCH)

soak: $(VENV)/.test  ## everything goes wrong in turn under traffic, for SOAK minutes (10): nothing wrong, crossed or kept
	$(BIN)/python -m bench.soak --minutes $(or $(SOAK),10)

bench-ramps: $(VENV)/.test  ## Monte Carlo of canary ramps: false aborts, detection, time to promote
	$(BIN)/python -m bench ramps $(BENCH)

bench-proxy: fast $(VENV)/.test  ## the proxy beside Envoy, nginx, HAProxy and LiteLLM, which it installs; some 20 minutes
	PYTHONPATH=$(abspath .fast) $(BIN)/python -m bench proxy $(BENCH)

fmt: $(VENV)/.check  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## lock the dependencies again (needs uv)
	tools/lock.sh

clean:  ## forget the virtual environment and everything made
	rm -rf $(VENV) $(CLIENTS) $(NODE)/node_modules .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage bench/out .bench

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("pointsman needs Python 3.11 or newer: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Each stamp installs one more layer; --no-deps because the lock already names everything.
$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked dependencies into $(VENV) ..."
	$(PIP) --require-hashes -r requirements/build.txt
	$(PIP) --require-hashes -r requirements/run.txt
	PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@echo "installing what the tests need ..."
	$(PIP) --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.check: requirements/check.txt $(VENV)/.run
	@echo "installing what the checks need ..."
	$(PIP) --require-hashes -r requirements/check.txt
	@touch $@

# Where there is no node, its tests say that they are skipped. A registry that does not answer is an error, soon.
$(NODE)/node_modules/.stamp: $(NODE)/package-lock.json
	@if command -v npm > /dev/null; then \
		echo "installing the Node packages of the tests ..."; \
		cd $(NODE) && timeout 60 npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error \
			--fetch-retries=1 --fetch-timeout=15000 \
			|| { echo "npm could not install them: is its registry within reach?" >&2; exit 1; }; \
	else mkdir -p $(NODE)/node_modules; fi
	@touch $@

$(CLIENTS)/.stamp: requirements/clients.txt
	@echo "installing the client libraries of the tests into $(CLIENTS) ..."
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@timeout 180 $(CLIENTS)/bin/python -m pip --disable-pip-version-check install --quiet --retries 1 --timeout 15 \
		--require-hashes -r requirements/clients.txt \
		|| { echo "pip could not install them: is its index within reach?" >&2; exit 1; }
	@touch $@
