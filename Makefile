# Everything a newcomer types. Only python3 (with venv and pip) and make are needed; each target sets up what it needs.

PYTHON ?= python3
VENV := .venv
VNC := $(VENV)/bin/vnc
NAME ?= tiny
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet install --constraint constraints.txt

# make ddp-train: what is not set is left to the configuration.
NGPUS ?= 1
MODE ?= all
DDP_NAME = $(if $(filter command line environment,$(origin NAME)),$(NAME),model)
option = $(if $(2),--$(1) '$(2)')

.PHONY: help environment train chat chat-server ddp-train gpu-status kill-gpu test format lint constraints clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2} /^##  / {printf "%20s%s\n", "", substr($$0, 5)}' \
		$(MAKEFILE_LIST)

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
	@$(VNC) evaluate --suite core --checkpoint runs/$(NAME)/checkpoints/last --json runs/$(NAME)/core.json
	@echo
	@echo "Talk to it:  make chat    or:  $(VNC) chat --checkpoint runs/$(NAME)_chat/checkpoints/last"

chat: $(VENV)/.runtime ## talk to what make train has trained
	@$(VNC) chat --checkpoint runs/$(NAME)_chat/checkpoints/last

$(VENV)/.app: $(VENV)/.runtime
	@$(PIP) --editable ".[app]"
	@touch $@

chat-server: $(VENV)/.app ## the app in a browser, at localhost:8003: chat, runs, evals, scaling, plan
	@$(VNC) app

ddp-train: $(VENV)/.runtime ## train on NGPUS=8 processes, MODE=pretraining|mid-training|all (the default), with DEPTH=12
##  TARGET_FLOPS=1e18 BATCH_SIZE=32 (rows of a micro-batch) NAME=model DATA_DIR=... CHAT_DIR=... TOKENIZER=...
##  CHECKPOINT=... (for mid-training) CORE_EVALS=true CHATCORE_EVALS=true
	@$(VNC) train --mode $(MODE) --devices $(NGPUS) --name $(DDP_NAME) $(call option,depth,$(DEPTH)) \
		$(call option,target_flops,$(TARGET_FLOPS)) $(call option,device_batch_size,$(BATCH_SIZE)) \
		$(call option,checkpoint,$(CHECKPOINT)) $(call option,data_dir,$(DATA_DIR)) \
		$(call option,chat_dir,$(CHAT_DIR)) $(call option,tokenizer,$(TOKENIZER)) \
		$(call option,core_evals,$(CORE_EVALS)) $(call option,chatcore_evals,$(CHATCORE_EVALS))

gpu-status: $(VENV)/.runtime ## what the GPUs do, and which training processes of yours run
	@nvidia-smi 2>/dev/null || echo "no NVIDIA GPU here (nvidia-smi does not answer)"
	@$(VNC) processes

kill-gpu: $(VENV)/.runtime ## end your training processes, and nobody else's: named first, they save; FORCE=1 does not ask
	@$(VNC) processes --kill true $(call option,yes,$(if $(filter-out 0 false,$(FORCE)),true))

test: $(VENV)/.dev ## the whole test suite
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

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
