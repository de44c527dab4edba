# Every target sets up what it needs. `make` alone prints help.

PYTHON ?= python3
VENV ?= .venv
DATASET ?= sprites

PY := "$(VENV)/bin/python"
OWN_VENV := $(filter file,$(origin VENV))
STAMP := $(VENV)/.lessons-installed
FIRST_LESSON := $(notdir $(firstword $(wildcard lessons/01_*.ipynb)))
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Notebook kernels find lesson_utils here, installed or not.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# The kernel of this environment, even where the user has another one named python3.
export JUPYTER_PREFER_ENV_PATH := 1
# PyTorch's threads wait for each other busily; where another program holds a core, for
# so long that all stand still. A shorter wait costs an idle machine next to nothing.
export GOMP_SPINCOUNT ?= 30000
ifeq ($(OWN_VENV),)
export PYTHONDONTWRITEBYTECODE := 1
endif

.DEFAULT_GOAL := help
.PHONY: help setup check-venv lab lessons test lint train card bench html doctor clean

help: ## print this list
	@echo "Diffusion in Twenty Steps"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=python3.12 picks the Python that makes .venv;"
	@echo "  VENV=path uses an environment that is already there, as it is."

setup: $(if $(OWN_VENV),$(STAMP),check-venv) ## make .venv, once and when versions change

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	echo "make: there is no '$(PYTHON)' here; Python 3.11 or later is needed:" \
	"install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version); Python 3.11 or later is needed:" \
	"say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "make: '$(PYTHON)' cannot make environments: install its venv package" \
	"(Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PY) -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear "$(VENV)"
	@echo "Installing the versions of constraints.txt into $(VENV): once, some minutes" \
	"(on Linux about 6 GB, most of it torch's CUDA libraries)."
	@$(PY) -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt -e '.[test,dev,browser]'
	@touch "$@"

check-venv:
	@test -x $(PY) || { \
	echo "make: VENV=$(VENV) is no environment: it holds no bin/python" >&2; exit 1; }

lab: setup ## open your copy of the lessons, work/, in JupyterLab
	@$(PY) -m tools.workspace
	$(PY) -m jupyterlab --ip=127.0.0.1 $(AS_ROOT) --ServerApp.root_dir="$(CURDIR)" \
	--LabApp.extra_labextensions_path="$(CURDIR)/tools/lab" \
	--LabApp.default_url=/lab/tree/work/$(FIRST_LESSON) $(LAB_ARGS)

lessons: setup ## execute every lesson into build/lessons/ (ARGS=--in-place)
	@$(PY) tools/lessons.py $(ARGS)

test: setup ## run all tests, lessons included (ARGS="-k ddim")
	$(PY) -m pytest $(ARGS)

lint: setup ## check style, format, and which module imports which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	"$(VENV)/bin/lint-imports" --no-cache --no-logo

train: setup ## train a checkpoint, resumable (DATASET=folder ARGS="--minutes 60")
	$(PY) -m lesson_utils train --dataset "$(DATASET)" $(ARGS)

card: setup ## judge a checkpoint, and write its model card (DATASET=mnist)
	$(PY) -m lesson_utils card --checkpoint "$(DATASET)" $(ARGS)

bench: setup ## time samplers, GIFs and training: one table, and JSON
	$(PY) -m tools.bench $(ARGS)

html: setup ## export the lessons as a static site, into site/
	@$(PY) -m tools.site $(ARGS)

doctor: setup ## print versions, device, memory, checksums and a plain verdict
	@$(PY) tools/doctor.py

clean: ## remove site/, build/ (training state too) and caches
	rm -rf build site .hypothesis .*_cache *.egg-info
	find lesson_utils tests tools -name __pycache__ -type d -exec rm -rf {} +
