# Everything a newcomer types. Only python3 (with venv and pip) and make are needed; each target sets up what it needs.

PYTHON ?= python3
VENV := .venv
VNC := $(VENV)/bin/vnc
NAME ?= tiny
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet install --constraint constraints.txt

.PHONY: help environment train chat test format lint constraints clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

environment: $(VENV)/.runtime ## a virtual environment with vnc in it

$(VENV)/.runtime: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once) ..."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@$(PIP) --editable ".[dev]"
	@touch $@

train: $(VENV)/.runtime ## train a small model on an invented world, teach it to chat, measure it
	@$(VNC) fit --config configs/tiny.yaml --name $(NAME) --resume true
	@$(VNC) fit --config configs/tiny_chat.yaml --name $(NAME)_chat --resume true \
		--model.init_from runs/$(NAME)/checkpoints/last
	@$(VNC) evaluate --suite core --checkpoint runs/$(NAME)/checkpoints/last
	@echo
	@echo "Talk to it:  make chat    or:  $(VNC) chat --checkpoint runs/$(NAME)_chat/checkpoints/last"

chat: $(VENV)/.runtime ## talk to what make train has trained
	@$(VNC) chat --checkpoint runs/$(NAME)_chat/checkpoints/last

test: $(VENV)/.dev ## the whole test suite
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

format: $(VENV)/.dev ## format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

lint: $(VENV)/.dev ## style, imports and types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

constraints: $(VENV)/.dev ## write the installed versions to constraints.txt
	@(head -1 constraints.txt; $(VENV)/bin/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\).*/\1/') > .constraints
	@mv .constraints constraints.txt

clean: ## remove the virtual environment and caches; runs and data stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist
