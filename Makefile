# make demo   install into .venv, make shards from the embedded captions and model, say where they are
# make test   install what the tests need, run every check and the tests
# make slow   the tests that are too long for every day
# make docs   the documentation site, in build/site
# make azurite   the Azure emulator beside the tests' packages: needs npm, 360 MB
# make notebook   docs/quickstart.ipynb executed again, in a folder of its own
# make pictures   README's and docs' pictures again: after another model, or changes of a page
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-output
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test slow check docs azurite notebook pictures clean
.DELETE_ON_ERROR:

demo: $(VENV)/.run
	$(BIN)/ovamgen generate --config jobs/configs/demo.yaml --out $(OUT)

test: check
	$(BIN)/python -m pytest -n 2

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 1800

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

azurite:
	mkdir -p $(VENV)/azurite
	echo '{"private": true}' > $(VENV)/azurite/package.json
	npm install --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.37.0

notebook: $(VENV)/.dev
	$(BIN)/python -m tests.documentation_notebook docs/quickstart.ipynb

pictures: $(VENV)/.dev
	rm -rf build/pictures
	$(BIN)/ovamgen generate --config jobs/configs/demo.yaml --out build/pictures/demo-output
	$(BIN)/ovamgen samples --model mini --per-class 4 --out build/pictures/samples
	$(BIN)/python -m tests.documentation_pictures build/pictures/demo-output build/pictures/samples docs

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a few minutes, once"
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable .
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-output
