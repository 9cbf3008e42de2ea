# make run    everything on http://127.0.0.1:8000 (HOST, PORT; LOCAL=0 leaves the local engines out)
# make test   the linters and every test
# make dev    the same pages with reload, for changing them
# make bench  what a request costs, beside nginx
# make lint   the linters alone
# make lock   pins the newest packages that are at least a week old

PYTHON ?= python3
# More for pytest: make test PYTEST="-k ledger -x"
PYTEST ?=

.PHONY: run test dev bench lint lock python
.SILENT:

run: python
	$(PYTHON) deploy/run.py

test: lint
	$(PYTHON) deploy/setup.py --local --dev --tests
	$(PYTHON) deploy/build.py
	.venv/bin/python -m api models pull
	.venv/bin/python -m pytest -n 2 --dist loadfile $(PYTEST)

dev: python
	$(PYTHON) deploy/dev.py

bench: python
	$(PYTHON) deploy/setup.py --local --dev
	.venv/bin/python -m tests.bench

lint: python
	$(PYTHON) deploy/setup.py --local --dev
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy
	.venv/bin/lint-imports --cache-dir .tools/import_linter

lock: python
	$(PYTHON) deploy/setup.py --local --dev
	$(PYTHON) deploy/lock.py

python:
	command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: Python 3.11 or newer is needed." >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + ": make $(MAKECMDGOALS) PYTHON=python3.12")'
