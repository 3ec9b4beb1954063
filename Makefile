# Two commands for everyone: `make run` measures this machine, `make test` checks the code. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

BASE ?= HEAD~1

.PHONY: run test lint types bench gate clean

run: $(VENV)/standard
	$(BIN)/siderostat run $(ARGS)

test: $(VENV)/dev
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/vermin --target=3.8- --no-tips --violations harness/record.py harness/worker.py harness/forkserver.py \
	  harness/limits.py harness/contention.py workloads devices

# The folders are not named after their packages, so what follows imports looks at an installed copy.
types: $(VENV)/dev
	rm -rf build && $(BIN)/pip install --quiet --no-deps --target build/types .
	cd build/types && PYTHONPATH=. ../../$(BIN)/lint-imports --no-cache --config ../../pyproject.toml
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p siderostat
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

bench: $(VENV)/dev
	for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Did the last commit, or what lies between BASE and HEAD, make siderostat itself slower?
gate: $(VENV)/standard
	$(BIN)/siderostat gate --base $(BASE) gate.toml $(ARGS)

$(VENV)/standard $(VENV)/dev: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "siderostat needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(@F)]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
