# Everything is installed in .venv; each step is repeated only when its prerequisites change.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --require-hashes --no-deps -r
# For a CPU-only build: make TORCH="torch==… --index-url …" (the default wheel for Linux includes CUDA).
TORCH ?= $(shell grep "^torch==" constraints.txt)
# Formats and lints CSS and JavaScript; a single wheel that needs neither Node nor network access.
DENO := DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
PYTEST = $(BIN)/python -m pytest -n $(or $(WORKERS),3) --dist loadgroup --no-loadscope-reorder

.PHONY: run serve-ray setup mlflow-ui check check-tests test all-tests coverage lint bench soak screenshot tutorials licences audit sbom lock space-rehearsal clean

# Container images often set it. Without bytecode caches, each of the tests' many processes compiles our modules again.
unexport PYTHONDONTWRITEBYTECODE

# make run PRESET=phi-3-mini-4k
export PHI3_UI_PRESET := $(or $(PRESET),$(PHI3_UI_PRESET))

run: .venv/installed ## start the app; set up the models if the store has none
	$(BIN)/python app.py

setup: .venv/installed ## set up the models without starting the page
	$(BIN)/python -m phi3_ui setup

serve-ray: .venv/installed-ray setup ## serve the API on a local Ray cluster, on port 8000
	$(BIN)/python -m deploy.ray

mlflow-ui: .venv/installed ## start MLflow's UI on the same store, on port 5001 or that of PHI3_UI_MLFLOW_URL
	$(BIN)/python -m phi3_ui mlflow-ui

# The type checker keeps one core busy for half a minute, so the tests run beside it.
check: .venv/installed-dev ## format, lint, types, and the tests that need no model, browser or server
	$(MAKE) -j2 lint check-tests

test: .venv/installed-dev ## format, lint, types, and all tests
	$(MAKE) -j2 lint all-tests

# The ignored files import an engine or a browser during collection, before markers can deselect them.
# Nothing waits for a browser or a server here, so a third worker would only import everything once more.
check-tests: WORKERS := $(or $(WORKERS),2)
check-tests: .venv/installed-dev
	$(PYTEST) -m "not engine and not browser and not server" --hypothesis-profile=check --ignore=tests/e2e \
		$(foreach path,engine runtime/test_memory.py runtime/test_sampling.py runtime/test_torch_threads.py,--ignore=tests/$(path))

all-tests: .venv/installed-dev
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m tests.support.mlflow2
	$(PYTEST)

coverage: .venv/installed-dev ## all tests with branch coverage; tracing doubles the time of pure Python tests
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m tests.support.mlflow2
	$(PYTEST) --cov

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(DENO) fmt --check phi3_ui/ui/static
	$(DENO) lint phi3_ui/ui/static
	$(BIN)/mypy

bench: .venv/installed-dev ## measure the app's overhead over the engines alone
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m bench

soak: .venv/installed-dev ## use the app at random for MINUTES (10), with kills, and check for leaks and lost data
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),10)

screenshot: .venv/installed-dev ## regenerate the README's screenshots
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m tests.support.screenshot

tutorials: .venv/installed-dev ## re-run the notebooks in examples/ and save their outputs
	$(BIN)/python -m tests.support.tutorials

space-rehearsal: .venv/installed-dev ## install and start the last commit as a Space does; SPACE_PYTHON (default: as in README.md), ZERO_GPU=1
	$(BIN)/python -m tests.support.browser
	$(BIN)/python -m tests.support.space_rehearsal $(SPACE_PYTHON) $(if $(ZERO_GPU),--zero-gpu)

clean: ## remove the environment and all of the app's data
	rm -rf .venv data .test-data

licences: .venv/installed-dev ## regenerate docs/licences.md from the locked and installed packages
	$(BIN)/python -m tests.support.licences

audit: .venv/installed-dev ## query OSV for known vulnerabilities of all pinned packages; requires network access
	$(BIN)/python -m tests.support.audit

sbom: .venv/installed-dev ## write a CycloneDX bill of materials to sbom.cdx.json
	$(BIN)/python -m tests.support.sbom

lock: .venv/installed-dev ## regenerate constraints.txt and the lock files from the installed packages
	$(BIN)/python -m tests.support.lock

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
		{ echo "Python 3.11 or 3.12 is required. Install it, or set its path: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

# Nothing is resolved: everything except torch is locked, with the hash of each file.
.venv/installed: requirements.lock | .venv/bin/python
	$(INSTALL) requirements.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

.venv/installed-ray: deploy/ray/requirements.lock .venv/installed
	$(INSTALL) $<
	touch $@

.venv/installed-dev: requirements-dev.lock .venv/installed
	$(INSTALL) requirements-dev.lock
	touch $@
