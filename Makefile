# chainbooks: everything a developer runs. `make` alone lists it. Every target sets up what it needs first.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON_VENV := .venv/bin/python
LOCAL := $(PYTHON_VENV) -m deploy.local
SOURCES := contracts deploy indexer ledger
SEED ?= 1
WORKERS ?= 3
PARALLEL := -n $(WORKERS) --dist worksteal
STEPS ?= 400
VERBOSE ?=
CONTRACT ?=
ROLE ?= postgres
CONFIG ?= .local/chainbooks.toml
INTO ?= rebuilt
SECONDS ?= 180

.PHONY: help setup doctor up down status logs verify rebuild psql topics tail demo test test-all chaos test-fast simulate simulate-long check format schema contracts lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Start here

setup: ## install everything below .venv and .local (as root on Debian missing programs too; NO_INSTALL=1 refuses)
	@sh deploy/local/bootstrap.sh
	@$(LOCAL) setup

demo: setup ## the main job on real input: a small business, a reorg, the books, the check (SEED=1 repeats exactly)
	@$(PYTHON_VENV) -m deploy.demo $(SEED)

test: setup ## all tests, against real Kafka, PostgreSQL and anvil, by three processes (WORKERS=0: by one)
	@$(PYTHON_VENV) -m pytest $(PARALLEL)

test-all: setup ## all tests, the long ones in full length: three minutes of kill -9
	@$(PYTHON_VENV) -m pytest $(PARALLEL) --chaos-seconds 180

##@ Local stack

doctor: setup-python ## look at everything that the stack needs, change nothing
	@$(LOCAL) doctor

up: setup ## start Kafka, PostgreSQL and anvil; containers when a Docker engine can, else native (CHAINBOOKS_NO_DOCKER=1)
	@$(LOCAL) up

down: setup-python ## stop them; the data stays
	@$(LOCAL) down

status: setup-python ## show each part; exit code 3 unless all are ready
	@$(LOCAL) status

logs: setup-python ## show the end of each part's log
	@$(LOCAL) logs

verify: setup-python ## check the ledger's books against themselves (CONFIG=.local/demo/chainbooks.toml: the demo's)
	@$(PYTHON_VENV) -m ledger verify --config $(CONFIG)

rebuild: setup-python ## fold the topics again beside the live books and compare (CONFIG=… INTO=schema)
	@$(PYTHON_VENV) -m ledger rebuild --into $(INTO) --config $(CONFIG)

psql: setup-python ## open psql on the ledger's database (ROLE=chainbooks_reader); the demo's: .local/demo/psql
	@$(LOCAL) psql --role $(ROLE)

topics: setup-python ## list the topics with their partitions and offsets
	@$(LOCAL) topics

tail: setup-python ## print payment events as they come (CONTRACT=name for one description)
	@$(LOCAL) tail --contract "$(CONTRACT)"

clean: ## stop the stack, remove .local, .venv and caches
	@if [ -x $(PYTHON_VENV) ]; then $(LOCAL) clean; fi
	rm -rf .local .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find $(SOURCES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Working on it

check: setup ## format, lint, types, import rules, SQL, schema drift, fast tests
	@$(PYTHON_VENV) -m ruff format --check .
	@$(PYTHON_VENV) -m ruff check .
	@$(PYTHON_VENV) -m mypy
	@.venv/bin/lint-imports
	@.venv/bin/sqlfluff lint --disable-progress-bar ledger deploy
	@$(PYTHON_VENV) -m contracts.schemas --check
	@$(PYTHON_VENV) -m pytest -q tests/unit tests/repo

chaos: setup ## kill -9 of indexer, ledger, Kafka and PostgreSQL under load and reorgs (SECONDS=180, SEED=n repeats)
	@$(PYTHON_VENV) -m pytest -q tests/e2e/chaos --chaos-seconds $(SECONDS) \
		$(if $(filter-out file,$(origin SEED)),--chaos-seed $(SEED))

test-fast: setup ## the tests that need nothing running
	@$(PYTHON_VENV) -m pytest -q tests/unit tests/repo

simulate: setup ## one history of the whole system (SEED=1 STEPS=400 VERBOSE=1 prints every event)
	@$(PYTHON_VENV) -m tests.simulation --seed $(SEED) --steps $(STEPS) $(if $(VERBOSE),--verbose)

simulate-long: setup ## fresh histories until stopped or one fails
	@$(PYTHON_VENV) -m tests.simulation --long --steps $(STEPS)

format: setup ## let ruff format and fix
	@$(PYTHON_VENV) -m ruff format .
	@$(PYTHON_VENV) -m ruff check --fix .

contracts: setup ## compile our Solidity contracts and Chainlink's (npm's solc) into contracts/abi
	@$(PYTHON_VENV) -m contracts.solidity.build
	@$(PYTHON_VENV) -m contracts.solidity.chainlink

schema: setup ## write the JSON Schemas and the AsyncAPI document again
	@$(PYTHON_VENV) -m contracts.schemas

lock: setup ## resolve requirements.lock again, with hashes, for every platform (LOCK_FLAGS=--upgrade)
	@$(PYTHON_VENV) -m pip install --quiet --disable-pip-version-check --target .local/uv --upgrade uv
	@.local/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_FLAGS) -o requirements.lock pyproject.toml

.PHONY: setup-python
setup-python:
	@sh deploy/local/bootstrap.sh
