# exnihilo from the command line. `make` alone prints what there is.

# Variables are taken from the command line, not from the environment: an exported N must not change a set.
PYTHON = python3
DATASET = visual_atoms
N = 10000
OUT = data/shards/$(DATASET)
SIZE =
SEED =
WORKERS =
SHARD_SIZE =
CODEC =
ENCODER = ViT-B-32/openai
XI = 0.25
CAPTIONS =
PRESET = paper-256
NAME = $(DATASET)-$(PRESET)
GPUS =
FROM =
FRACTION =
RUN = runs/$(NAME)
SET =
ROOT =
ARGS =

venv := .venv/bin/python
prepared = $(patsubst data/%/prepare.py,%,$(sort $(wildcard data/*/prepare.py)))
root = $(if $(filter-out img2dataset,$(SET)),--root)
options = $(if $(SIZE),--size $(SIZE)) $(if $(SEED),--seed $(SEED)) $(if $(WORKERS),--workers $(WORKERS)) \
          $(if $(SHARD_SIZE),--shard-size $(SHARD_SIZE)) $(if $(CODEC),--codec $(CODEC)) $(ARGS)

# What nano is fitted to and examined by, DATASET:SIZE:PICTURES:SETTING. Nearly every picture is of a class of its own; the exam's
# shaders are of one program less, so that the classes are others.
nano_kinds = visual_atoms:$1:$2 fractals:$1:$2 fractals_multi:$1:$2 fractals_without_color:$1:$3 fractals_without_background:$1:$4 fractals_corrupted_contour:$1:$3
nano_fitted = $(addsuffix :classes=20000,$(call nano_kinds,256,10000,4000,5000) $(foreach size,128 64 32,$(call nano_kinds,$(size),1500,600,800))) \
              fractaldb:256:6000:classes=3000 shaders:256:10000:classes=21000 \
              $(foreach size,128 64 32,fractaldb:$(size):1000:classes=3000 shaders:$(size):1500:classes=21000)
nano_exam = $(addsuffix :classes=20000,$(call nano_kinds,256,600,250,300)) fractaldb:256:400:classes=3000 shaders:256:765:structures=255
nano_set = $(venv) -m synth shards $$1 --size $$2 --n $$3 --set $$4 --seed $2 --out data/shards/nano/$1/$$1-$$2 --shard-size 2048

# One process a GPU, by torchrun; without GPUS one process, on whatever device there is.
trainer = $(if $(GPUS),$(venv) -m torch.distributed.run --standalone --nproc-per-node $(GPUS) -m train,$(venv) -m train)
tables = $(or $(CAPTIONS),data/captions/$(DATASET)/$(subst /,-,$(ENCODER)))

.DEFAULT_GOAL := help
.PHONY: help setup shards data captions pretrain finetune evaluate encoder vet doctor test soak bench check-gpu lint

help:  ## print this list
	@echo "make TARGET [NAME=VALUE ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.train .venv/.egl  ## make .venv with what the stages need (the others do it too)

shards: .venv/.synth .venv/.egl  ## render a data set: DATASET N SIZE SEED OUT WORKERS SHARD_SIZE CODEC ARGS
	@$(venv) -m synth shards $(DATASET) --n $(N) --out "$(OUT)" $(options)

data: .venv/.data $(if $(filter emoji,$(SET)),.venv/.font)  ## prepare a real captioned set: SET (emoji coco cub ...) ROOT (its files) OUT SIZE SEED WORKERS SHARD_SIZE CODEC ARGS
	@test -f "data/$(SET)/prepare.py" || { echo "error: SET is '$(SET)'; give one of $(prepared)" >&2; exit 2; }
	@$(venv) -m data.$(SET).prepare $(if $(ROOT),$(root) "$(ROOT)") $(if $(filter command,$(origin OUT)),--out "$(OUT)") $(options)

captions: .venv/.caption  ## make the caption tables of a data set: DATASET ENCODER XI OUT (its shards) CAPTIONS WORKERS ARGS
	@$(venv) -m caption captions "$(OUT)" --encoder "$(ENCODER)" --xi $(XI) \
	    $(if $(CAPTIONS),--out "$(CAPTIONS)") $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

pretrain: .venv/.train  ## train a model: DATASET ENCODER PRESET NAME GPUS OUT (its shards) CAPTIONS ARGS
	@$(trainer) pretrain $(PRESET) --shards "$(OUT)" --captions "$(tables)" --out "runs/$(NAME)" $(ARGS)

finetune: .venv/.train  ## go on with a run on another set: DATASET ENCODER PRESET NAME FROM FRACTION GPUS OUT CAPTIONS ARGS
	@$(trainer) finetune $(PRESET) --from "$(FROM)" --shards "$(OUT)" --captions "$(tables)" --out "runs/$(NAME)" \
	    $(if $(FRACTION),--fraction $(FRACTION)) $(ARGS)

evaluate: .venv/.evaluate  ## measure a run against a set: RUN SET (shards) CAPTIONS ARGS
	@$(venv) -m evaluate metrics "$(RUN)" --reference "$(SET)" $(if $(CAPTIONS),--captions "$(CAPTIONS)") $(ARGS)

encoder: .venv/.caption .venv/.egl  ## fit nano anew, into data/nano: about 37 minutes of a core
	@set -e; for set in $(nano_fitted); do set -- $$(echo $$set | tr : ' '); $(call nano_set,fitted,1001); done; \
	for set in $(nano_exam); do set -- $$(echo $$set | tr : ' '); $(call nano_set,exam,1002); done
	@$(venv) -m caption fit-encoder data/shards/nano/fitted --exam data/shards/nano/exam --out data/nano $(ARGS)

vet: .venv/.egl  ## try our shader programs anew, into data/shaders
	@$(venv) -m synth vet shaders --out data/shaders $(ARGS)

doctor: .venv/.egl  ## say what draws shaders here, or what to install
	@$(venv) -m synth doctor $(ARGS)

test: lint .venv/.egl .venv/.font  ## lint, check types, run the tests
	@$(venv) -m pytest -m "not soak" $(ARGS)

soak: .venv/.test  ## a hundred kills at random moments
	@$(venv) -m pytest -m soak $(ARGS)

bench: .venv/.test  ## print the speed ratios of README's table
	@$(venv) -m tests.bench.bench_synth
	@$(venv) -m tests.bench.bench_fractals
	@$(venv) -m tests.bench.bench_shaders
	@$(venv) -m tests.bench.bench_caption
	@$(venv) -m tests.bench.bench_train
	@$(venv) -m tests.bench.bench_stream
	@OMP_NUM_THREADS=1 $(venv) -m tests.bench.bench_evaluate

check-gpu: .venv/.test  ## what can only be known on a GPU, in ten minutes
	@$(venv) -m tests.gpu_check $(ARGS)

lint: .venv/.test  ## ruff and mypy
	@$(venv) -m ruff check --quiet . && $(venv) -m ruff format --check --quiet . && $(venv) -m mypy --no-error-summary

# Mesa's EGL, which draws shaders: installed where apt is there and permitted, else a sentence; nothing else needs it.
.venv/.egl: .venv/.synth
	@$(venv) -m synth doctor > /dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && \
	    apt-get update --quiet=2 > /dev/null 2>&1 && \
	    apt-get install --yes --quiet=2 --no-install-recommends libegl1 libgl1 libgl1-mesa-dri > /dev/null 2>&1; } || \
	    echo "note: shaders need Mesa's EGL; as root: apt-get install libegl1 libgl1 libgl1-mesa-dri" >&2
	@touch $@

# The emoji font, which the emoji set is drawn from, and what joins the parts of an emoji: the same way.
.venv/.font: .venv/.data
	@$(venv) -c 'from data.emoji import font; font.find(None)' 2> /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && \
	    apt-get update --quiet=2 > /dev/null 2>&1 && \
	    apt-get install --yes --quiet=2 --no-install-recommends fonts-noto-color-emoji libfribidi0 > /dev/null 2>&1; } || \
	    echo "note: emoji need a font; as root: apt-get install fonts-noto-color-emoji libfribidi0" >&2
	@touch $@

# One pip call with exact versions; the stamps say which files they were made for.
.venv/.synth: extras = synth
.venv/.data: extras = synth,data
.venv/.caption: extras = synth,caption
.venv/.train: extras = synth,caption,train
.venv/.evaluate: extras = synth,caption,train,evaluate
.venv/.test: extras = synth,data,caption,captioner,train,evaluate,test
.venv/.synth .venv/.data .venv/.caption .venv/.train .venv/.evaluate .venv/.test: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: exnihilo needs Python 3.11 or later; name one with make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || apt-get install --yes --quiet=2 python3-venv > /dev/null 2>&1 || \
	    { echo "error: Python's venv module is missing; install the system package python3-venv" >&2; exit 2; }
	@$(venv) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "setting up .venv with [$(extras)]" >&2
	@$(venv) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[$(extras)]'
	@touch $@ .venv/.synth $(foreach extra,data caption train evaluate,$(if $(findstring $(extra),$(extras)),.venv/.$(extra)))
