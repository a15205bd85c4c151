# Two commands matter: `make demo` and `make test`. Both install what they need first.
# PYTHON=/path/to/python chooses the interpreter; ARGS=... goes to pytest (test) or the command (demo, lock).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint chaos soak fuzz cluster bench lock clean
export PYTHON

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv and install the package from the lock file
	@scripts/setup

demo: setup ## Run the demo
	@.venv/bin/sseal demo $(ARGS)

test: ## Install the test tools and programs, then run every check and test
	@scripts/setup --test
	@scripts/test $(ARGS)

test-long: ## Run what takes long: chaos, short soak and fuzzing, and many examples of each property
	@scripts/setup --test
	@scripts/test --long

lint: ## Run the checks without the tests
	@scripts/setup --dev
	@scripts/test --checks

chaos: ## Run the failure suite in its long form, about ten minutes (SSEAL_CHAOS_SEED=number repeats a run)
	@scripts/setup --test
	@scripts/test --chaos $(ARGS)

soak: ## Ten minutes of churn on each engine, after which hubs must be as large as before (SSEAL_SOAK=seconds)
	@scripts/setup --test
	@scripts/test --soak $(ARGS)

fuzz: ## Ten minutes of hostile requests at a real hub (SSEAL_FUZZ=seconds; SSEAL_FUZZ_SEED=number repeats a run)
	@scripts/setup --test
	@scripts/test --fuzz $(ARGS)

cluster: ## Start Redis, two hubs and nginx on loopback, to try (ARGS=--port 9000)
	@scripts/setup --cluster
	@scripts/cluster $(ARGS)

bench: ## Measure sseal beside others; takes a quarter of an hour (ARGS=--quick for a look)
	@scripts/bench $(ARGS)

lock: ## Write the lock files anew (ARGS=--upgrade for the newest versions)
	@scripts/lock $(ARGS)

clean: ## Remove everything the other targets made
	rm -rf .venv .venv-bench .setup .coverage .coverage.* build dist src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
