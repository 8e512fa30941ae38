# Everything from nothing, with only Python 3.11+ and make.
PYTHON ?= python3
UV_VERSION := 0.12.24
ARGS ?=
# Tests run on every core; `make test JOBS=0` runs them in one process.
JOBS ?= 2
FUZZ_SECONDS ?= 60
BIN := .venv/bin

.PHONY: help setup packages lock run test coverage check format bench bench-peers bench-growth distributed lab conformance fuzz soak clean

help:  ## Say what the targets do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

.venv/ready: requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "keyfob needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python has no ensurepip: install the package python3-venv and run make again"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/ready  ## Set up .venv

packages:  ## Install the programs of Debian that tests use where they are there (as root; tests without theirs are skipped)
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium nginx-light pgbouncer postgresql-15 redis-server

lock:  ## Write requirements.lock anew
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet "uv==$(UV_VERSION)"; }
	@$(BIN)/uv pip compile --quiet --universal --all-extras --group dev --generate-hashes --no-header --no-annotate -o requirements.lock pyproject.toml

run: .venv/ready  ## Start the server on SQLite, play the demo, stay up (ARGS=--once to end after it)
	@$(BIN)/keyfob demo $(ARGS)

test: .venv/ready  ## Run the tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

coverage: .venv/ready  ## Run the tests and say which lines and branches they miss (a quarter slower)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term $(ARGS)

soak: .venv/ready  ## Kill a server a few hundred times, revoke a hundred thousand at once, and see that nothing is lost (about half an hour)
	@$(BIN)/python -m pytest tests/system/test_distributed.py --burst 100000 -s
	@$(BIN)/python -m pytest tests/system/test_crash.py --crash-rounds 300 --timeout 7200 $(ARGS)
	@$(BIN)/python -m pytest tests/sync/test_forking.py --forks-under-load 200 --timeout 7200 $(ARGS)
	@$(BIN)/python -m pytest tests/stores/test_store_races.py tests/stores/test_linearizability.py tests/stores/postgres/test_postgres_races.py tests/stores/redis/test_redis_races.py --race-rounds 3000 --timeout 7200 -n $(JOBS) $(ARGS)

fuzz: .venv/ready  ## Fuzz the parser of tokens for a minute (FUZZ_SECONDS=60; puts atheris into .venv)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz
	@$(BIN)/python tests/fuzz/fuzz_token_parser.py -max_total_time=$(FUZZ_SECONDS) $(ARGS)

check: .venv/ready  ## Format, lint, types, floors
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

conformance:  ## Write docs/reference/conformance.md anew, from the marks of the tests
	@$(PYTHON) tests/conformance/page.py

format: .venv/ready  ## Format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix-only .

bench: .venv/ready  ## Measure, and write benchmarks/results/latest.json
	@$(BIN)/python -c 'import authlib, jose, jwcrypto' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python --group bench || echo "measuring without the libraries that could not be installed"
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: .venv/ready  ## Measure what a user would pick instead, in the same run (puts them into .peers)
	@$(BIN)/python -m benchmarks.peers $(ARGS)

bench-growth: .venv/ready  ## Measure the stores at up to ten million sessions (hours); writes benchmarks/results/growth.json
	@$(BIN)/python -m benchmarks.growth $(ARGS)

distributed: .venv/ready  ## Measure revocations at 50 verifier processes behind a relay; writes benchmarks/results/distributed.json and .svg
	@$(BIN)/python -m benchmarks.distributed_bench $(ARGS)

lab: .venv/ready  ## Compare sessions, JWTs and the hybrid by eight experiments, within five minutes (ARGS="--only 1,2 --html lab.html")
	@$(BIN)/keyfob lab $(ARGS)

clean:  ## Remove what was built
	@rm -rf .venv build dist .mypy_cache .ruff_cache .hypothesis
