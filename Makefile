# `make` lists the commands. Each makes what it needs: nothing has to be set up by hand.

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit cluster server e2e ship docs gpu environments binaries images chart release clean

# Tests on clusters mostly wait: three at a time do not slow each other.
CLUSTERS ?= 3

help: ## this list
	@sed -nE 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

demo: environments binaries ## an endpoint on a development cluster, and speech turned into text
	@.venv/bin/python -m devcluster.demo

test: unit lint cluster server e2e ## everything: style, types, and all tests

lint: environments ## style and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy operator/whisper_operator devcluster release scripts benchmarks/operator deploy/monitoring tests/unit tests/cluster tests/ship tests/e2e
	.venv-server/bin/mypy server tests/server tests/clients benchmarks/server benchmarks/gpu

unit: .venv-operator-ready ## tests of pure code, in seconds
	.venv/bin/pytest tests/unit -n 2

cluster: .venv-operator-ready binaries ## tests on a real control plane
	.venv/bin/pytest tests/cluster -n $(CLUSTERS) --dist loadfile

server: .venv-server-ready ## tests of the server, with a real model
	.venv-server/bin/pytest tests/server -n 2 --dist worksteal

e2e: environments binaries ## the demo, a browser, OpenAI's client for Node, and the images where Docker can run
	@scripts/environment clients
	.venv-server/bin/pytest tests/clients
	.venv/bin/pytest tests/e2e -m "not release"

ship: environments .venv-release-ready binaries ## what a release is held to besides, with programs that take minutes to build
	.venv/bin/pytest tests/ship
	.venv/bin/pytest tests/e2e -m release

docs: .venv-release-ready ## the documentation as a static site, in .cache/site
	@NO_MKDOCS_2_WARNING=1 .venv-release/bin/mkdocs build --strict
	@echo 'To read it: python3 -m http.server --directory .cache/site'

gpu: .venv-server-ready ## on a machine with a CUDA card: equality, memory and speed there, in minutes
	@PYTHONPATH=server .venv-server/bin/python -m benchmarks.gpu

# Downloading and compiling go well together, so `make -j2` may do them at once.
environments: .venv-operator-ready .venv-server-ready

.PHONY: .venv-operator-ready .venv-server-ready .venv-release-ready
.venv-operator-ready:
	@scripts/environment operator

.venv-server-ready:
	@scripts/environment server

.venv-release-ready:
	@scripts/environment release

binaries: .venv-operator-ready
	@.venv/bin/python -m devcluster build

images: ## build the images: REPO=... VERSION=... MODEL=... PUSH=1
	@scripts/images

chart: .venv-operator-ready ## write the generated half of the Helm chart anew
	.venv/bin/python -m release.chart

release: environments .venv-release-ready binaries ## what a release has beside its images, into dist/: REPO=...
	@.venv/bin/python -m release "$(REPO)"

clean: ## remove all that these commands made in the checkout
	@if [ -d .venv ]; then .venv/bin/python -m devcluster down >/dev/null 2>&1 || true; fi
	rm -rf dist tests/clients/node/node_modules .venv .venv-release .venv-server .cache .mypy_cache .ruff_cache .pytest_cache
