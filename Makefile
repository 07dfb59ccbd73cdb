# exnihilo from the command line. `make` alone prints what there is.

# Variables are taken from the command line, not from the environment: an exported N must not change a set.
PYTHON = python3
DATASET = visual_atoms
N = 10000
OUT = $(addprefix data/shards/,$(DATASET))
SIZE =
SEED =
WORKERS =
SHARD_SIZE =
CODEC =
ENCODER = ViT-B-32/openai
XI = 0.25
CAPTIONS =
PRESET = paper-256
NAME = $(subst $(space),-,$(strip $(DATASET)))-$(PRESET)
GPUS =
FROM =
FRACTION =
RUN = runs/$(NAME)
SET =
ROOT =
ARGS =

empty :=
space := $(empty) $(empty)
given = $(filter-out file,$(origin $1))
refuse = { echo "error: $(strip $1)" >&2; exit 2; }

venv := .venv/bin/python
splits = $(patsubst %/manifest.json,%,$(wildcard data/real/$(SET)/*/manifest.json))
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
nano_sets = set -e; for set in $(nano_fitted); do set -- $$(echo $$set | tr : ' '); $(call nano_set,fitted,1001); done; \
            for set in $(nano_exam); do set -- $$(echo $$set | tr : ' '); $(call nano_set,exam,1002); done

# One process a GPU, by torchrun; without GPUS one process, on whatever device there is.
trainer = $(if $(GPUS),$(venv) -m torch.distributed.run --standalone --nproc-per-node $(GPUS) -m train,$(venv) -m train)
encoder = $(subst /,-,$(ENCODER))
tables = $(or $(CAPTIONS),$(foreach dataset,$(DATASET),data/captions/$(dataset)/$(encoder)))

# A list as options, one a word where DATASET names several sets, else the whole of it: $(call each,--option,list).
several = $(word 2,$(DATASET))
each = $(if $(several),$(patsubst %,$1 "%",$2),$(if $2,$1 "$2"))

# Fine-tuning: of the run FROM, or with FROM=none of a new model; on DATASET, or on the real set SET with the paper's settings.
papers = $(filter coco cub celeba_hq,$(SET))
source = $(filter-out none,$(FROM))
usual_preset = $(or $(papers:%=%-256),$(patsubst %,%-32,$(filter emoji,$(SET))))
tuned = $(if $(and $(SET),$(if $(call given,PRESET),,1)),$(usual_preset),$(PRESET))
tuned_shards = $(if $(SET),--shards "$(if $(call given,OUT),$(OUT),data/real/$(SET)/train)",$(call each,--shards,$(OUT)))
tuned_tables = $(if $(SET),--captions "$(or $(CAPTIONS),data/captions/$(SET)-train/$(encoder))",$(call each,--captions,$(tables)))
tuned_part = $(or $(FRACTION),$(if $(SET),$(if $(papers),0.1,1)))
tuned_name = $(if $(call given,NAME),$(NAME),$(if $(SET),$(SET)-$(tuned)-from-$(or $(notdir $(source:/=)),scratch),$(NAME)))
tuning = $(if $(source),finetune $(tuned) --from "$(source)",pretrain $(tuned)) $(addprefix --set data.fraction=,$(tuned_part))

# Evaluation: SET is a set of shards, or the name of a real set, whose part held out is taken.
held_out = $(if $(SET),$(firstword $(wildcard $(addprefix data/real/$(SET)/,val test))))
held_out_tables = $(if $(held_out),$(wildcard data/captions/$(SET)-$(notdir $(held_out))/$(encoder)/manifest.json))
measured_by = $(or $(CAPTIONS),$(held_out_tables:/manifest.json=))

.DEFAULT_GOAL := help
.PHONY: help setup demo shards data captions pretrain finetune evaluate encoder nano-emoji vet doctor test soak bench check-gpu lint

help:  ## print this list
	@echo "make TARGET [NAME=VALUE ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.train .venv/.egl  ## make .venv with what the stages need (the others do it too)

demo: .venv/.demo .venv/.egl .venv/.font  ## all stages once through, in minutes, to runs/demo/report.html: ARGS
	@$(venv) -m evaluate.experiments.demo --out runs/demo $(ARGS)

shards: .venv/.synth .venv/.egl  ## render a data set, or several: DATASET N SIZE SEED OUT WORKERS SHARD_SIZE CODEC ARGS
	@$(if $(and $(several),$(call given,OUT)),$(call refuse,\
	    OUT names one place and DATASET several sets; leave OUT out: each goes to data/shards/NAME))
	@for dataset in $(or $(DATASET),""); do \
	    $(venv) -m synth shards $$dataset --n $(N) --out "$(if $(several),data/shards/$$dataset,$(OUT))" $(options) || exit; done

data: .venv/.data $(if $(filter emoji,$(SET)),.venv/.font)  ## prepare a real captioned set: SET (emoji coco ...) ROOT (its files) OUT SIZE SEED WORKERS ARGS
	@test -f "data/$(SET)/prepare.py" || $(call refuse,SET is '$(SET)'; give one of $(prepared))
	@$(venv) -m data.$(SET).prepare $(if $(ROOT),$(root) "$(ROOT)") $(if $(call given,OUT),--out "$(OUT)") $(options)

captions: .venv/.caption  ## make the caption tables of data sets: DATASET or SET (a real one) ENCODER XI OUT (their shards) CAPTIONS WORKERS ARGS
	@$(if $(and $(several),$(CAPTIONS),$(filter-out $(words $(OUT)),$(words $(CAPTIONS)))),$(call refuse,\
	    OUT names $(words $(OUT)) sets of shards and CAPTIONS $(words $(CAPTIONS)) places; name one for each or leave CAPTIONS out))
	@$(if $(SET),$(if $(splits),,$(call refuse,\
	    data/real/$(SET) holds no sets; make data prepares them: those of SET=folder under the name of the folder)))
	@$(if $(and $(SET),$(CAPTIONS),$(word 2,$(splits))),$(call refuse,\
	    CAPTIONS names one place and SET=$(SET) has $(words $(splits)) splits; leave CAPTIONS out: each goes to data/captions/$(SET)-SPLIT))
	@set -- $(call each,,$(CAPTIONS)); for shards in $(or $(if $(SET),$(splits),$(call each,,$(OUT))),""); do \
	    $(venv) -m caption captions "$$shards" --encoder "$(ENCODER)" --xi $(XI) $${1:+--out "$$1"} \
	    $(if $(WORKERS),--workers $(WORKERS)) $(ARGS) || exit; shift $$(( $$# > 0 )); done

pretrain: .venv/.train  ## train a model, on several sets as on one: DATASET ENCODER PRESET NAME GPUS OUT (their shards) CAPTIONS ARGS
	@$(trainer) pretrain $(PRESET) $(call each,--shards,$(OUT)) $(call each,--captions,$(tables)) --out "runs/$(NAME)" $(ARGS)

finetune: .venv/.train  ## go on with a run on a real set: SET FROM (none: anew) PRESET FRACTION NAME ENCODER GPUS ARGS; or on DATASET OUT CAPTIONS
	@$(if $(call given,FROM),,$(call refuse,finetune needs FROM=RUN whose weights are taken; FROM=none begins with new ones))
	@$(if $(tuned),,$(call refuse,no preset is known for SET=$(SET); give PRESET as in make finetune SET=$(SET) PRESET=coco-256 FROM=RUN))
	@$(trainer) $(tuning) $(tuned_shards) $(tuned_tables) --out "runs/$(tuned_name)" $(ARGS)

evaluate: .venv/.evaluate  ## measure a run against a set: RUN SET (a real set's name or shards) ENCODER CAPTIONS ARGS
	@$(if $(SET),,$(call refuse,evaluate needs SET: the name of a real set or the place of shards))
	@$(venv) -m evaluate metrics "$(RUN)" --reference "$(or $(held_out),$(SET))" $(if $(measured_by),--captions "$(measured_by)") $(ARGS)

encoder: .venv/.caption .venv/.egl  ## fit nano anew, into data/nano: about 37 minutes of a core
	@$(nano_sets)
	@$(venv) -m caption fit-encoder data/shards/nano/fitted --exam data/shards/nano/exam --out data/nano $(ARGS)

nano-emoji: .venv/.caption .venv/.egl .venv/.font  ## carry nano on with a drawn emoji font, into data/nano-emoji: about 17 minutes of a core
	@$(nano_sets)
	@for size in 64 32; do $(venv) -m data.emoji.prepare --out data/shards/nano/emoji-$$size --size $$size || exit; done
	@$(venv) -m caption fit-encoder data/shards/nano/fitted data/shards/nano/emoji-64/train data/shards/nano/emoji-32/train --from nano \
	    --exam data/shards/nano/exam --exam data/shards/nano/emoji-64/test --visits 320000 --out data/nano-emoji $(ARGS)

vet: .venv/.egl  ## try our shader programs anew, into data/shaders
	@$(venv) -m synth vet shaders --out data/shaders $(ARGS)

doctor: .venv/.egl  ## say what draws shaders here, or what to install
	@$(venv) -m synth doctor $(ARGS)

test: lint .venv/.egl .venv/.font  ## lint, check types, run the tests
	@OMP_NUM_THREADS=1 $(venv) -m pytest -m "not soak" -n 2 --dist loadfile $(ARGS)

soak: .venv/.test  ## a hundred kills at random moments
	@$(venv) -m pytest -m soak $(ARGS)

bench: .venv/.test  ## print the speed ratios of README's table
	@$(venv) -m tests.bench.bench_synth
	@$(venv) -m tests.bench.bench_fractals
	@$(venv) -m tests.bench.bench_shaders
	@$(venv) -m tests.bench.bench_data
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
.venv/.demo: extras = synth,data,caption,train,evaluate
.venv/.test: extras = synth,data,caption,captioner,train,evaluate,test
.venv/.synth .venv/.data .venv/.caption .venv/.train .venv/.evaluate .venv/.demo .venv/.test: pyproject.toml tests/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: exnihilo needs Python 3.11 or later; name one with make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || apt-get install --yes --quiet=2 python3-venv > /dev/null 2>&1 || \
	    { echo "error: Python's venv module is missing; install the system package python3-venv" >&2; exit 2; }
	@$(venv) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "setting up .venv with [$(extras)]" >&2
	@$(venv) -m pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt '.[$(extras)]'
	@touch $@ .venv/.synth $(foreach extra,data caption train evaluate,$(if $(findstring $(extra),$(extras)),.venv/.$(extra)))
