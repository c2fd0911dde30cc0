# Every command that a person or CI runs. Needs Python 3.11 or newer, make, and the package registries;
# everything else is installed beneath this folder, at the versions and hashes of the requirements*.lock files.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/sh
BOOTSTRAP := .bootstrap
VENV := .venv
BIN := $(VENV)/bin
UV := $(BOOTSTRAP)/bin/uv
# What runs the system, and with it what tests and builds it. Both are in one environment, and each install only adds.
READY := $(VENV)/.ready
TOOLS := $(VENV)/.ready-tools
# What checks the files of a deployment and makes a release.
RELEASE := .cache/release/tools
RELEASE_TOOLS := $(RELEASE)/.ready

# Tests of one file run in one process, each process with a Kafka and a Postgres of its own. Most of them wait.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 7 ? n + 1 : 8)))
beside = --numprocesses $(JOBS) --dist loadfile
# Folders in which nearly every test needs Kafka and Postgres, or is long.
STACK := live pipeline orchestra/store migrations
LIVE := tests/live/test_cli_up.py tests/live/test_readme.py tests/live/test_upgrade.py

# Where nothing compiled is kept, every process compiles again all that it imports: seconds each, and there are hundreds.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never
# Like pip, uv is to trust what the machine trusts, where the machine keeps a list.
ifneq (,$(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt))
export UV_SYSTEM_CERTS ?= 1
endif

.PHONY: help setup up down test test-live test-all check lint types imports drift locked fast format docs figures baseline vendor lock lint-deploy alerts chart chart-live site browser doors faults faults-full bench growth build images push-images audit release

help:  ## Show this list
	@echo "make TARGET [ARGS='passed to the command behind it']. To begin with: up, test, check"
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '  %-13s %s\n' "$$target" "$$text"; done

setup: $(READY)  ## Install everything into .venv (done by the other targets when needed)

up: $(READY)  ## Start the whole system on this machine and send it one message (ARGS="--detach --workers 3")
	@exec $(BIN)/orchestra up $(ARGS)

down: $(READY)  ## Stop what `make up ARGS=--detach` started (ARGS=--wipe deletes its data)
	@exec $(BIN)/orchestra down $(ARGS)

test: $(TOOLS)  ## Run the tests on real Kafka and Postgres, several at once (ARGS="-k name" runs a few)
	@exec $(BIN)/pytest -m "not long" $(beside) $(ARGS)

test-live: $(TOOLS)  ## Run the long tests that every submission runs: `make up`, the commands of the pages, an upgrade
	@exec $(BIN)/pytest $(LIVE) $(beside) $(ARGS)

test-all: test  ## Run `make test`, then the long tests one by one: storms, faults, examples, a real model, the browser
	@$(BIN)/pytest -m long
	@exec $(BIN)/python -m tests.browser

check: lint types imports drift locked fast  ## Fast checks: lint, types, imports, drift, locks, fast tests

lint: $(TOOLS)  ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(TOOLS)  ## Check types
	@$(BIN)/mypy

imports: $(TOOLS)  ## Check who imports whom
	@$(BIN)/lint-imports --no-logo

drift: $(TOOLS)  ## Check that generated files and translations are up to date
	@$(BIN)/python -m schemas.publish --check
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python docs/translations.py

locked: $(BOOTSTRAP)/.ready  ## Check that the locks are up to date
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && cp requirements*.lock "$$fresh" && \
	$(call compile,$$fresh,) && for lock in requirements*.lock; do \
		cmp -s "$$lock" "$$fresh/$$lock" || { echo "$$lock is not what pyproject.toml asks for: run make lock" >&2; exit 1; }; \
	done && echo "locks agree with pyproject.toml"

fast: $(TOOLS)  ## Run the tests that need no Kafka and no Postgres
	@$(BIN)/pytest --quiet -m "not stack and not long" $(beside) $(addprefix --ignore=tests/,$(STACK))

format: $(TOOLS)  ## Format the code and apply automatic fixes
	@$(BIN)/ruff check --fix --exit-zero --quiet
	@$(BIN)/ruff format

docs: $(TOOLS)  ## Write schemas/published, docs/reference, and the dashboards and alerts in deploy/ from the code
	@$(BIN)/python -m schemas.publish
	@$(BIN)/python docs/generate.py

figures: $(TOOLS)  ## Accept the present cost of the hot paths as the baseline (ARGS="--only worker-turn")
	@$(BIN)/python -m benchmarks.guard --write $(ARGS)

baseline: $(TOOLS)  ## For a release: make the present schemas those that later ones must be compatible with
	@$(BIN)/python -m tests.support.compatibility

vendor: $(TOOLS)  ## Write the console's third-party files, as the versions in gateway/console/vendor/vendor.lock.json
	@$(BIN)/python -m tests.browser.vendor $(ARGS)

lock: $(BOOTSTRAP)/.ready  ## Write the locks from pyproject.toml (ARGS=--upgrade takes newer versions)
	@$(call compile,.,$(ARGS))
	@$(resolve) $(ARGS) --group release --output-file release/requirements.lock
	@$(resolve) $(ARGS) --group browser --output-file tests/browser/requirements.lock
	@$(resolve) $(ARGS) --group chart --output-file tests/chart/requirements.lock
	@$(resolve) $(ARGS) --group doors --output-file tests/doors/requirements.lock
	@$(resolve) $(ARGS) --group doors-instructor --output-file tests/doors/requirements-instructor.lock
	@$(resolve) $(ARGS) --group doors-litellm-proxy --output-file tests/doors/requirements-litellm-proxy.lock
	@$(resolve) $(ARGS) --group site --output-file docs/site/requirements.lock

# Checks a file against a schema. It knows none of compose's own tags, so they are cut before.
valid = $(RELEASE)/bin/check-jsonschema --default-filetype yaml --builtin-schema vendor.$(1)

lint-deploy: $(RELEASE_TOOLS)  ## Check what deploys the system: Dockerfile, compose files, CI, Renovate
	@$(RELEASE)/bin/hadolint Dockerfile
	@$(RELEASE)/bin/yamllint --strict .gitlab-ci.yml .pre-commit-config.yaml compose*.yaml
	@$(call valid,gitlab-ci) --data-transform gitlab-ci .gitlab-ci.yml
	@$(call valid,renovate) renovate.json
	@for file in compose*.yaml; do \
		sed 's/!\(override\|reset\) //' "$$file" | $(call valid,compose-spec) - || { echo "in $$file" >&2; exit 1; }; \
	done

alerts: $(TOOLS)  ## Try the dashboards and alerts on a real Prometheus: about six minutes (ARGS="-k DeadLetters")
	@command -v promtool prometheus >/dev/null || { \
		echo "promtool and prometheus are not on PATH: apt-get install --no-install-recommends prometheus" >&2; exit 1; }
	@exec $(BIN)/pytest tests/deploy tests/live/test_prometheus.py $(ARGS)

chart: $(TOOLS)  ## Lint and render the Helm chart, and check what it renders (needs helm and kubeconform)
	@$(BIN)/python -m tests.chart $(ARGS)

chart-live: $(TOOLS)  ## Try the chart on an API server, and its autoscaling on a Prometheus (needs both, and helm)
	@$(BIN)/python -m tests.chart --live $(ARGS)

site: $(BOOTSTRAP)/.ready  ## Build the documentation as a site that searches itself offline, and check it (ARGS="--look --serve")
	@$(BOOTSTRAP)/bin/python -m docs.site $(ARGS)

browser: $(TOOLS)  ## Look at each page of the console in a real Chromium, on a stack of its own (ARGS="-k overview")
	@$(BIN)/python -m tests.browser $(ARGS)

doors: $(TOOLS)  ## Try every call of the OpenAI API with other people's clients (ARGS="--only ai-sdk,openai-python")
	@$(BIN)/python -m tests.doors $(ARGS)

faults: $(TOOLS)  ## Break the system on purpose, and count what was lost: twelve to sixteen minutes (ARGS="--only scale")
	@$(BIN)/python -m faults $(ARGS)

faults-full: $(TOOLS)  ## The whole campaign, hours long, with a report (ARGS="--minutes 90 --soak 30")
	@$(BIN)/python -m faults --full --report docs/reliability/$$(date -u +%Y-%m-%d).md $(ARGS)

bench: $(TOOLS)  ## How fast it is and what it costs: some six minutes on a quiet machine (ARGS="--quick --json now.json")
	@$(BIN)/python -m benchmarks $(ARGS)

growth: $(TOOLS)  ## How the cost of a request grows: history, rows, calls, streams, ... (ARGS="--curves history,rows")
	@$(BIN)/python -m benchmarks growth $(ARGS)

build: $(BOOTSTRAP)/.ready  ## Build the wheel into dist/
	@$(UV) build --wheel --require-hashes --build-constraints requirements.lock $(ARGS)

bake = docker buildx bake --file docker-bake.hcl

images:  ## Build the container images for this machine (needs Docker with buildx)
	@exec $(bake) --load $(ARGS)

push-images:  ## Build the images for x86-64 and ARM; push them to IMAGES, a path of a registry, as VERSION (needs buildx)
	@: "$${IMAGES:?is to be the path of a registry}" "$${VERSION:?is to be the version of the images}"
	@VERSION="$${VERSION#v}" $(bake) --push $(ARGS) release

audit: $(RELEASE_TOOLS)  ## Check licences and known vulnerabilities of the packages that run the system
	@$(RELEASE)/bin/python -m release.audit

release: $(RELEASE_TOOLS)  ## Make and check a release, and show how it would be published (ARGS=--publish does it)
	@$(RELEASE)/bin/python -m release $(ARGS)

# The runtime lock is the part of the first that `make up` needs, the pipeline lock what the images of gateway and
# workers do, the llm lock that of the LLM service; the bootstrap lock is the installer itself.
resolve = $(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header --no-annotate
compile = $(resolve) $(2) pyproject.toml --all-extras --group editable --output-file $(1)/requirements.lock && \
	$(resolve) pyproject.toml --extra all --group editable --constraints $(1)/requirements.lock \
		--output-file $(1)/requirements-runtime.lock && \
	$(resolve) pyproject.toml --extra gateway --extra workers --constraints $(1)/requirements.lock \
		--output-file $(1)/requirements-pipeline.lock && \
	$(resolve) pyproject.toml --extra llm --constraints $(1)/requirements.lock \
		--output-file $(1)/requirements-llm.lock && \
	$(resolve) $(2) --group bootstrap --output-file $(1)/requirements-bootstrap.lock

# The first Python that will do; `make PYTHON=/path/to/python` names another.
find_python = for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
		"$$python" -c 'import ensurepip, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer (with its venv module) was found: install one, or name it with make PYTHON=..." >&2; \
		exit 1; \
	fi

$(BOOTSTRAP)/.ready: requirements-bootstrap.lock
	@$(find_python); echo "Installing uv with $$python" && "$$python" -m venv --clear $(BOOTSTRAP)
	@$(BOOTSTRAP)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

install = $(UV) pip install --quiet --python $(BIN)/python

$(READY): $(BOOTSTRAP)/.ready requirements-runtime.lock pyproject.toml
	@echo "Installing the system into $(VENV), 570 MB: about half a minute the first time"
	@$(UV) venv --quiet --allow-existing --python $(BOOTSTRAP)/bin/python $(VENV)
	@$(install) --require-hashes --requirement requirements-runtime.lock
	@$(install) --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): $(READY) requirements.lock
	@echo "Installing the tools that test and build it, 540 MB: about half a minute the first time"
	@$(install) --require-hashes --requirement requirements.lock
	@touch $@

$(RELEASE_TOOLS): $(BOOTSTRAP)/.ready release/requirements.lock
	@echo "Installing the tools of a release into $(RELEASE), 150 MB"
	@$(UV) venv --quiet --clear --python $(BOOTSTRAP)/bin/python $(RELEASE)
	@$(UV) pip install --quiet --python $(RELEASE)/bin/python --require-hashes --requirement release/requirements.lock
	@touch $@
