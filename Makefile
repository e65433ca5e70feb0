# Every target sets up the virtual environment that it needs. The first run takes some twenty seconds, later ones none.
#
#   make demo     the example chat on http://127.0.0.1:8000/      (PORT=9000 for another port)
#   make test     the whole suite on SQLite, then what uses the database on PostgreSQL
#   make check    format, lint, types, migrations, deploy checks, docs, distribution
#   make matrix   the suite on every supported Python that this machine has
#   make faults   real servers ended under load, 100 times in each way (ARGS=5 for five): no event lost, none doubled
#   make screenshots   the pictures of the README and the docs (needs Chromium)
#   make translations  the catalogues of the other languages, from the code and back
#   make bench    the figures of the README, against plain Channels and its relatives

PY ?= python3
VENV := .venv
VENV_BENCH := .venv-bench
PYTHON := $(CURDIR)/$(VENV)/bin/python
# Lists with commas cannot stand in a $(call …).
EXTRAS_DEMO := demo
EXTRAS_DEV := dev,docs,browser
DOCS_OUT := docs/_build/html
PORT ?=
ARGS ?=

# uv would first try a download that many networks refuse.
export UV_PYTHON_DOWNLOADS = never
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Where it is set, as in many containers, each of the many processes that the tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE
# pyenv's shims run only those versions that PYENV_VERSION names; without pyenv this is empty and changes nothing.
PYENV_VERSIONS = $(shell command -v pyenv >/dev/null && pyenv versions --bare 2>/dev/null | grep -E '^3\.1[1-9]\.[0-9]+$$' | paste -sd: -)
WITH_ALL_PYTHONS = $(if $(PYENV_VERSIONS),PYENV_VERSION=$(PYENV_VERSIONS))

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-sqlite test-postgresql check format lint types migrations deploy docs distribution faults bench matrix matrix-quick translations screenshots clean

help:
	@sed -n 's/^#   //p' Makefile

# A virtual environment, also with a Python that has no ensurepip (Debian without python3-venv), and in it uv, or else pip.
define create_venv
@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PY) is older than Python 3.11; try make PY=python3.12" >&2; exit 1; }
@test -x $(1)/bin/python || $(PY) -m venv $(1) 2>/dev/null || { rm -rf $(1); $(PY) -m venv --without-pip $(1) && $(PY) -m pip --python $(1)/bin/python install -q pip; }
@$(1)/bin/python -m pip install -q uv 2>/dev/null || echo "no uv to be had, pip will do" >&2
endef

define install
@if test -x $(1)/bin/uv; then $(1)/bin/uv pip install -q --python $(1)/bin/python -e '.[$(2)]'; else $(1)/bin/python -m pip install -q -e '.[$(2)]'; fi
@touch $@
endef

$(VENV)/.stamp-demo: pyproject.toml
	$(call create_venv,$(VENV))
	$(call install,$(VENV),$(EXTRAS_DEMO))

$(VENV)/.stamp-dev: pyproject.toml
	$(call create_venv,$(VENV))
	$(call install,$(VENV),$(EXTRAS_DEV))

$(VENV)/.stamp-matrix: pyproject.toml
	$(call create_venv,$(VENV))
	$(call install,$(VENV),matrix)

$(VENV_BENCH)/.stamp: pyproject.toml
	$(call create_venv,$(VENV_BENCH))
	$(call install,$(VENV_BENCH),bench)

demo: $(VENV)/.stamp-demo
	@exec $(PYTHON) example_project/manage.py demo $(if $(PORT),--port $(PORT)) $(ARGS)

# TypeScript's compiler and the schema of AsyncAPI, for the tests.
node_modules/.package-lock.json: package-lock.json | $(VENV)/.stamp-dev
	@$(PYTHON) -m tests.node

test: test-sqlite test-postgresql

test-sqlite: $(VENV)/.stamp-dev node_modules/.package-lock.json
	@echo "== tests on SQLite"
	DATABASE=sqlite $(PYTHON) scripts/run_tests.py $(ARGS)
	@echo "== tests of the operator's pages under django-unfold"
	DATABASE=sqlite $(PYTHON) scripts/run_tests.py --ds tests.unfold_settings tests/admin/test_pages.py
	@echo "== tests of the example"
	cd example_project && $(PYTHON) -W error manage.py test

# What neither asks nor writes the database was shown above, and the browser does not see which one it is.
test-postgresql: $(VENV)/.stamp-dev node_modules/.package-lock.json
	@echo "== tests on PostgreSQL"
	DATABASE=postgresql $(PYTHON) scripts/run_tests.py -m "database and not browser" $(ARGS)

check: format lint types migrations deploy docs distribution
	@echo "== all checks passed"

format: $(VENV)/.stamp-dev
	@echo "== format"
	$(VENV)/bin/ruff format --check .

lint: $(VENV)/.stamp-dev
	@echo "== lint"
	$(VENV)/bin/ruff check .

types: $(VENV)/.stamp-dev
	@echo "== types"
	$(PYTHON) -m mypy --strict channels_secure example_project scripts

migrations: $(VENV)/.stamp-dev
	@echo "== migrations"
	DJANGO_SETTINGS_MODULE=tests.settings $(PYTHON) -W error -m django makemigrations --check --dry-run
	cd example_project && $(PYTHON) manage.py makemigrations --check --dry-run

# The example as it would stand behind a proxy in production.
deploy: $(VENV)/.stamp-dev
	@echo "== manage.py check --deploy"
	cd example_project && DJANGO_DEBUG=0 DJANGO_SECRET_KEY="$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	  AUDIT_KEY="$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(32))')" \
	  DJANGO_ALLOWED_HOSTS=chat.example.com TRUSTED_PROXIES=192.0.2.0/24 \
	  DATABASE_URL=postgresql://chat@db.example.com/chat REDIS_URL=redis://redis.example.com:6379/0 \
	  $(PYTHON) manage.py check --deploy --fail-level WARNING

docs: $(VENV)/.stamp-dev
	@echo "== docs"
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs $(DOCS_OUT)

distribution: $(VENV)/.stamp-dev
	@echo "== distribution"
	$(PYTHON) scripts/check_distribution.py

faults: $(VENV)/.stamp-dev
	$(PYTHON) -m tests.faults $(ARGS)

bench: $(VENV_BENCH)/.stamp
	$(VENV_BENCH)/bin/python -m tests.benchmarks $(ARGS)

matrix: $(VENV)/.stamp-matrix
	$(WITH_ALL_PYTHONS) $(PYTHON) -m nox $(ARGS)

# Without servers and browser, on one newer Python: make matrix-quick NEWER=3.12
matrix-quick: $(VENV)/.stamp-matrix
	$(WITH_ALL_PYTHONS) $(PYTHON) -m nox -s 'tests-$(NEWER)' --error-on-missing-interpreters -- -m "not live and not browser" $(ARGS)

# Collects the texts, and compiles what is translated: make translations, translate, make translations.
translations: $(VENV)/.stamp-dev
	$(PYTHON) scripts/translations.py

screenshots: $(VENV)/.stamp-dev
	$(PYTHON) scripts/screenshots.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV_BENCH) node_modules .nox build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
