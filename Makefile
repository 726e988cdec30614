# `make` or `make help` lists what there is.
PYTHON ?= python3
# The development environment: a stable link to the one that fits requirements/dev.txt.
CACHE := $(or $(TRADEKEEP_CACHE),$(HOME)/.cache/tradekeep-ops)
DEV := $(CACHE)/dev/bin
RUN := $(PYTHON) tests/certify/run.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-unit test-faults test-attacks test-guards test-torture test-action test-plays test-integration test-molecule lint sanity bench comparison venv link clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: link  ## build, back up, damage and restore a trading bot's data here, and deploy its code, without root
	@environment=$$($(PYTHON) tests/certify/environments.py demo) && exec "$$environment/bin/python" demo/run.py

test:  ## everything below except bench and comparison; installs what it needs, says what needs root
	@$(RUN)

test-all:  ## the same, with the unit tests on every Python from 3.9 to 3.13 found here
	@$(RUN) --all-pythons

test-unit:  ## the engine and the doors, on every Python from 3.9 to 3.13 found here; with gpg and the like on the newest
	@$(RUN) unit

test-faults:  ## kills, full disks, bit flips, hostile archives
	@$(RUN) faults

test-attacks:  ## what a bot, an archive, an upstream or another server that was taken over can do (root)
	@$(RUN) attacks

test-guards:  ## takes each guard against a loss out of the code: a test has to fail without it
	@$(RUN) guards

test-torture:  ## every known way to lose data by a deploy, against tradekeep and against those who lose it
	@$(RUN) torture

test-action:  ## the GitHub action's own steps, against a Debian host (root), else an sshd on this machine
	@$(RUN) action

test-plays:  ## roles and playbooks by ansible-playbook, on this machine, without root
	@$(RUN) plays

test-integration:  ## every module by ansible-test, on this machine, without root
	@$(RUN) integration

test-molecule:  ## real systemd hosts, Debian 12 and 13 (root)
	@$(RUN) molecule

lint:  ## ruff, mypy, paths that root could follow, ansible-lint, documentation, changelog, workflows
	@$(RUN) lint

sanity:  ## ansible-test sanity, galaxy build and import
	@$(RUN) sanity

bench: venv link  ## ratios against tar+gzip, restic and builtin modules, as a table
	@$(DEV)/python benchmarks/run.py

comparison: venv link  ## play every case of a deploy that loses data; writes docs/deploy-comparison.md
	@$(DEV)/python tests/torture/comparison.py

venv:  ## make the development environment and print its path
	@$(PYTHON) tests/certify/environments.py dev

link:  ## make the checkout importable as tradekeep.ops (.cache/collections)
	@$(PYTHON) tests/certify/checkout.py

clean:  ## remove what builds and tests left in the checkout; environments stay in ~/.cache/tradekeep-ops
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible tests/output tradekeep-ops-*.tar.gz
	find plugins tests -name __pycache__ -prune -exec rm -rf {} +
