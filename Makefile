# bifocus: every job has one command. `make help` lists them.
#
# `make demo` and `make test` need Python 3.10 or newer, its venv module, and make;
# they build .venv themselves and reuse it until pyproject.toml or constraints.txt change.
# Other Python: make PYTHON=/path/to/python3 demo. Options: make demo ARGS="--tiles 9".

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt
# setuptools warns of the template folder and of editable installs; both are meant.
INSTALL := PYTHONWARNINGS=ignore $(PIP) --build-constraint constraints.txt
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python3.14
ARGS ?=

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test check kill-test long-test bench docs viewer clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.runtime ## calibrate, scan, fuse, stitch and report a simulated slide into demo-out/
	$(BIN)/bifocus demo -o demo-out --live 0 $(ARGS)

test: $(VENV)/.dev ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## lint, format, types (mypy), import layers, file sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python bench/size_report.py

kill-test: $(VENV)/.dev ## kill whole scans 200 times at random moments, go on, compare
	BIFOCUS_KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest tests/soak/test_kill_loop.py \
		-o log_cli=true -o log_cli_level=INFO $(ARGS)

long-test: $(VENV)/.dev ## scan 5,000 tiles on the virtual clock: memory and CPU time a tile
	BIFOCUS_LONG_TILES=$(or $(TILES),5000) $(BIN)/python -m pytest \
		tests/soak/test_long_scan.py -o log_cli=true -o log_cli_level=INFO $(ARGS)

bench: $(VENV)/.dev ## measure speed and memory
	$(BIN)/bifocus bench $(ARGS)

docs: $(VENV)/.dev ## check the links of every Markdown file and run its examples
	$(BIN)/python docs/check_docs.py

viewer: $(VENV)/.runtime ## fetch the live page's picture viewer (OpenSeadragon) with npm
	$(BIN)/python -m bifocus.edge.fetch_viewer

clean: ## remove caches, builds and demo-out; .venv stays
	rm -rf build dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage bifocus.egg-info
	find bifocus calib edge export hal model tests bench docs \
		-type d -name __pycache__ -prune -exec rm -rf {} +

# A name on PATH may be a shim that cannot run, so each candidate is tried by running it.
$(BIN)/python:
	@too_old=; no_venv=; found=; \
	for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	    "$$candidate" -c 'pass' 2>/dev/null || continue; \
	    if ! "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then \
	        too_old="$$too_old $$candidate"; \
	    elif ! "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then \
	        no_venv="$$no_venv $$candidate"; \
	    else found="$$candidate"; break; fi; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "Creating $(VENV) with $$("$$found" --version)"; \
	    "$$found" -m venv --clear $(VENV); \
	elif [ -n "$$no_venv" ]; then \
	    echo "make: the venv module is missing from:$$no_venv." \
	        "On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; \
	else \
	    echo "make: Python 3.10 or newer is needed; tried: $(or $(PYTHON),$(CANDIDATES))." \
	        "Too old:$${too_old:- none}." \
	        "Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing bifocus into $(VENV)"
	@$(PIP) pip
	@$(INSTALL) --editable '.[slides,onnxruntime]'
	@$(BIN)/python -m bifocus.edge.fetch_viewer || echo \
		'The live page will show an overview only; later: make viewer'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV)"
	@$(INSTALL) --group dev
	@touch $@
