# make demo   from a .nas file to a retrained network on the digits, in a few minutes on two cores
# make test   the tests
# make lint   ruff and mypy
# make docs   the documentation as a site, build/docs/index.html
# make audit  known vulnerabilities of the pinned dependencies
# Each does all set-up itself: a virtual environment in $(VENV), made once.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?= -c constraints.txt

DEMO_DIR ?= build/demo
DEMO_PARAMS ?= --param C=4 --param layers=5 --param resolution=16
DEMO_SEARCH_EPOCHS ?= 4
DEMO_RETRAIN_EPOCHS ?= 25
DEMO_SEED ?= 0

# Tensors this small are slower on two threads than on one, and crawl when a core is busy.
ONE_THREAD := OMP_NUM_THREADS=1

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test slow lint format docs audit clean

help:
	@sed -n 's/^# //p' Makefile | head -6

install: $(STAMP)

# One install command on purpose: pip then weighs torchvision's `torch==` requirement and the
# constraint together and keeps a local build (2.13.0+cpu satisfies 2.13.0) where one is offered.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nasdsl needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/nasdsl compile spaces/darts.nas --method toponas -o $(DEMO_DIR) $(DEMO_PARAMS)
	$(ONE_THREAD) $(BIN)/python $(DEMO_DIR)/search.py --data digits --epochs $(DEMO_SEARCH_EPOCHS) \
	    --out $(DEMO_DIR)/runs/$(DEMO_SEED) --seed $(DEMO_SEED) --restart
	$(ONE_THREAD) $(BIN)/python $(DEMO_DIR)/retrain.py --data digits --set cutout=4 --epochs $(DEMO_RETRAIN_EPOCHS) \
	    --out $(DEMO_DIR)/runs/$(DEMO_SEED) --seed $(DEMO_SEED) --restart
	@echo "pictures: `find $(DEMO_DIR)/runs/$(DEMO_SEED) -name '*.svg' | sort | tr '\n' ' '`"

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

slow: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "site: build/docs/index.html"

# In an environment of its own: the tool's dependencies are none of this project's.
audit:
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
	    $(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; } || \
	    { echo "NOT AUDITED: pip-audit could not be installed"; exit 0; }; \
	test ! -x $(VENV)-audit/bin/pip-audit || $(VENV)-audit/bin/python .ci/audit.py

clean:
	rm -rf $(VENV) $(VENV)-audit build dist
