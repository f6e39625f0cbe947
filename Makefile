# make demo: train, score, sample and rank three models on real data. make test: lint, types, floors, fast tests.
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= runs/demo
DEMO := baselines/independent baselines/chow_liu autoregressive/made

.PHONY: demo test test-all lint speed check-accelerators docs clean

demo: .venv/.installed
	@set -e; for model in $(DEMO); do \
	  $(BIN)/python -m experiments.train --config=configs/$$model.py:digits --workdir=$(RUNS)/$$(basename $$model); \
	  $(BIN)/python -m experiments.evaluate --workdir=$(RUNS)/$$(basename $$model) --split=test; \
	done
	@echo
	@$(BIN)/python -m experiments.leaderboard $(RUNS)
	@echo "Pictures: $(RUNS)/*/samples.png, $(RUNS)/made/curves.png"

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -n 2

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

speed: .venv/.installed
	$(BIN)/python -m experiments.speed

# libtpu lies in a folder of its own: where it is installed, JAX looks for TPUs.
check-accelerators: .venv/.installed
	@test -e build/libtpu || $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target=build/libtpu \
	  'libtpu>=0.0.40' || echo "libtpu cannot be installed here: models are exported, and not compiled for TPUs."
	@if test -e build/libtpu; then export TPU_LIBRARY_PATH=$(CURDIR)/build/libtpu/libtpu/libtpu.so; fi; \
	$(BIN)/python -m pytest -n 2 tests/studies/test_accelerators.py && \
	if test -n "$$TPU_LIBRARY_PATH"; then \
	  $(BIN)/python -m experiments.accelerators --out=build/accelerators.json --programs; \
	fi

docs: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[docs]'
	JAX_PLATFORMS=cpu $(BIN)/sphinx-build -q -W --keep-going -b html docs docs/build

# The stamp is written last: an install that died is started again.
.venv/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not here; install Python 3.11 or newer, or call make PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: gdm needs Python 3.11 or newer; call make PYTHON=python3.12, say"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build docs/build docs/reference *.egg-info runs/demo
