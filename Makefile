# Each chore is an `icequake` command; `make` only prepares the machine first.
PYTHON ?= python3
ICEQUAKE := .venv/bin/icequake

.DEFAULT_GOAL := help
.PHONY: help setup setup-test gameday test test-all control smoke nightly list bench heal clean

help: ## Show the chores
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@$(PYTHON) chaos/setup.py

setup-test:
	@$(PYTHON) chaos/setup.py --group test

gameday: setup ## One bad day for two collectors: the reference must PASS, a naive one must FAIL (icequake gameday)
	@$(ICEQUAKE) gameday

control: setup ## The control experiment: nothing breaks, everything must be there (icequake run control)
	@$(ICEQUAKE) run control

smoke: setup ## Five minutes of runs, and the history page (icequake nightly --preset smoke)
	@$(ICEQUAKE) nightly --preset smoke

nightly: setup ## Half an hour of runs, trends, index page and mail body, for a scheduler (icequake nightly)
	@$(ICEQUAKE) nightly

list: setup ## Scenarios, faults, targets, traffic (icequake list)
	@$(ICEQUAKE) list

test: setup-test ## Lint, types and the test suite, under ten minutes (icequake test)
	@$(ICEQUAKE) test

test-all: setup-test ## The same with the long tests and the quick tier of the fault catalogue (icequake test --all)
	@$(ICEQUAKE) test --all

bench: setup ## Measure reconciliation, collector and gateway here (icequake bench)
	@$(ICEQUAKE) bench verify --events 10m
	@$(ICEQUAKE) bench collector
	@$(ICEQUAKE) bench gateway

heal: setup ## Remove faults that an interrupted run left behind (icequake heal)
	@$(ICEQUAKE) heal

clean: ## Remove the virtual environment and all caches; runs/ stays
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
