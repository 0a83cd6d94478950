# Every target sets up what it needs: `make compile` is all that a fresh clone wants. PYTHON picks the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Three of the six need no data but those that are built in.
MODELS := cnn-digits lenet5-digits resnet20-digits resnet20-given resnet56-given lstm-sst2-kept
TARGETS := cpu
ifeq ($(MODELS),all)
override MODELS := cnn-digits lenet5-digits resnet20-digits resnet20-given resnet56-given lstm-sst2-kept cnn-mnist \
  lenet5-mnist bilstm-imdb-kept mobilenetv2-cifar10-kept
endif

.DEFAULT_GOAL := help
.PHONY: help compile bench table variants test test-system check format clean

help:  ## List the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  %-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

compile: $(READY)  ## Set up, then train, prune, quantize, lower and measure the default model
	$(BIN)/edgeprune compile

bench: $(READY)  ## Compile and measure six models into bench_results/, or MODELS=all; goes on where it stopped
	@for target in $(TARGETS); do for recipe in $(MODELS); do \
	  echo "bench: $$recipe for $$target" >&2; \
	  if [ -z "$$EDGEPRUNE_DATA" ] && grep -qF '$${EDGEPRUNE_DATA}' recipes/$$recipe.yaml; then \
	    echo "bench: $$recipe is left out: EDGEPRUNE_DATA is not set" >&2; continue; \
	  fi; \
	  $(BIN)/edgeprune compile --recipe $$recipe --target $$target --out build/$$recipe-$$target >/dev/null; code=$$?; \
	  case $$code in \
	    0|3|6) $(BIN)/edgeprune bench --resume build/$$recipe-$$target --out bench_results || exit $$? ;; \
	    4) echo "bench: $$recipe is left out, the line above says why" >&2 ;; \
	    *) exit $$code ;; \
	  esac; \
	done; done

table: $(READY)  ## Compile every model on every data set for every target, untrained, into docs/table.md
	$(BIN)/python benchmarks/compile_table.py --out docs/table.md

variants: $(READY)  ## What is in each variant of every model for every target, untrained, into docs/variants.md
	$(BIN)/python benchmarks/variant_table.py --out docs/variants.md

test: $(READY)  ## The tests: no network, no accelerator
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not system and not device and not network"

test-system: $(READY)  ## The tests with real servers, emulation, kills and a browser; see .ci/run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m system --ignore tests/system/test_noise.py
	$(BIN)/python -m pytest -m system tests/system/test_noise.py

check: $(READY)  ## Format, lint, types, architecture, tests: one yes or no
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py
	$(MAKE) test

format: $(READY)  ## Rewrite the code in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what was built; the environment and the stage cache stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	@touch $@
