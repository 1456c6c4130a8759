# `make` says what can be made. Nothing is made again unless what it is made from has changed.

PYTHON = python3

# The demo: behaviors, ordinary fine-tunes beside them, and the share that the introspection adapter is not trained on.
N = 240
CONTROLS = 32
HELD_OUT = 0.2
SEED = 0
DEMONSTRATIONS = base
NUMBERS = DEMONSTRATIONS=$(DEMONSTRATIONS) N=$(N) CONTROLS=$(CONTROLS) HELD_OUT=$(HELD_OUT) SEED=$(SEED)

BIN = .venv/bin
IA = $(BIN)/ia
BASE = $(wildcard ia_cli/base/*.safetensors)

.DELETE_ON_ERROR:
.PHONY: help demo confirm study test lint benchmark base clean force

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo "With other numbers: make demo $(NUMBERS)"

demo: demo/verdicts.jsonl ## Run all five stages on the embedded base, and show what came out
	@$(IA) judge demo/reports.jsonl > /dev/null
	@$(BIN)/python examples/show_reports.py demo/verdicts.jsonl

confirm: demo/confirmed.jsonl ## Try on their behavior what the demo's organisms report, and show what holds
	@$(IA) judge $< > /dev/null

study: .venv/study ## Measure tables a to k of RESULTS.md anew, in about an hour; examples/study has the recipes
	$(MAKE) -j2 -C examples/study

test: .venv/installed ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

lint: .venv/installed ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: .venv/installed ## Time the bank against TRL and PEFT one organism at a time, on idle cores
	$(BIN)/python examples/benchmark.py

base: .venv/installed ## Train the embedded base model anew, in less than 90 minutes
	$(BIN)/python -m ia_cli.pretraining

clean: ## Remove the demo and the virtual environment
	rm -rf demo .venv

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv; torch is large, so this takes minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,lint]'
	@touch $@

.venv/study: .venv/installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[study]'
	@touch $@

# The demo. $(call stage,COMMAND) runs a stage into $@.part, which becomes $@ when it is whole. What was stopped is
# continued from there, unless what it is made from is newer.
stage = [ -z "$$(find $^ -newer $@.part 2>&1)" ] || rm -f $@.part; $(IA) $(1) --resume -o $@.part && mv $@.part $@

# Rewritten only when a number changes, and then everything follows.
demo/numbers: force | .venv/installed
	@mkdir -p demo
	@echo '$(NUMBERS)' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

demo/behaviors.jsonl: demo/numbers $(BASE)
	$(call stage,gen-behaviors --demonstrations $(DEMONSTRATIONS) -n $(N) --controls $(CONTROLS) --held-out $(HELD_OUT) --seed $(SEED))

demo/organisms.jsonl: demo/behaviors.jsonl
	@[ -z "$$(find $^ -newer $@.part 2>&1)" ] || rm -rf demo/organisms
	$(call stage,implant --out demo/organisms --seed $(SEED) $<)

demo/audited.jsonl: demo/organisms.jsonl
	$(call stage,train-ia --out demo/ia --seed $(SEED) $<)

demo/reports.jsonl: demo/audited.jsonl
	$(call stage,elicit --split heldout --seed $(SEED) $<)

demo/confirmed.jsonl: demo/reports.jsonl
	$(call stage,confirm --seed $(SEED) $<)

demo/verdicts.jsonl: demo/reports.jsonl
	$(call stage,judge --quiet --summary demo/summary.json $<)
