# Variables become options, quoted for the shell. Commands hold the defaults. DATASET, OUT and CAPTIONS may be lists. Exported ones have no effect.
PYTHON = python3
override DATASET := $(if $(findstring command,$(origin DATASET)),$(subst ','\'',$(value DATASET)))
override SET := $(if $(findstring command,$(origin SET)),$(subst ','\'',$(value SET)))
override OUT := $(if $(findstring command,$(origin OUT)),$(subst ','\'',$(value OUT)))
override CAPTIONS := $(if $(findstring command,$(origin CAPTIONS)),$(subst ','\'',$(value CAPTIONS)))
N =
SIZE =
SEED =
WORKERS =
SHARD_SIZE =
CODEC =
override ENCODER := $(if $(findstring command,$(origin ENCODER)),$(subst ','\'',$(value ENCODER)))
XI =
override PRESET := $(if $(findstring command,$(origin PRESET)),$(subst ','\'',$(value PRESET)))
override NAME := $(if $(findstring command,$(origin NAME)),$(subst ','\'',$(value NAME)))
GPUS =
override FROM := $(if $(findstring command,$(origin FROM)),$(subst ','\'',$(value FROM)))
FRACTION =
override RUN := $(if $(findstring command,$(origin RUN)),$(subst ','\'',$(value RUN)))
override ROOT := $(if $(findstring command,$(origin ROOT)),$(subst ','\'',$(value ROOT)))
ARGS =
venv := .venv/bin/python
form = $(SIZE:%=--size '%') $(SEED:%=--seed '%') $(WORKERS:%=--workers '%') $(SHARD_SIZE:%=--shard-size '%') $(CODEC:%=--codec '%')
places = $(or $(OUT),$(SET),$(DATASET))
train = $(venv) $(GPUS:%=-m torch.distributed.run --standalone --nproc-per-node %) -m train
inputs = $(places:%=--on '%') $(CAPTIONS:%=--captions '%') $(ENCODER:%=--encoder '%') $(NAME:%=--out 'runs/%')
style = $(venv) -m ruff check --quiet . && $(venv) -m ruff format --check --quiet .
types = $(venv) -m mypy --no-error-summary
.PHONY: help setup demo shards data captions pretrain finetune evaluate encoder judge formula-32 speedrun vet doctor test soak bench check-gpu lint
help:  ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
setup: .venv/.train .venv/.shaders  ## make .venv for the stages; the other targets do it too
demo: .venv/.demo .venv/.emoji  ## fine-tune formula-32 on emoji beside the same from scratch, in minutes: ARGS
	@$(venv) -m evaluate.experiments.demo $(ARGS)
shards: .venv/.shaders  ## render data sets: DATASET N SIZE SEED OUT WORKERS SHARD_SIZE CODEC ARGS
	@$(venv) -m synth shards $(DATASET:%='%') $(N:%=--n '%') $(OUT:%=--out '%') $(form) $(ARGS)
data: .venv/.data $(if $(filter emoji,$(SET)),.venv/.emoji)  ## prepare a real set: SET (emoji coco ...) ROOT OUT SIZE SEED WORKERS ARGS
	@$(venv) -m data $(SET:%='%') $(if $(ROOT),--root '$(ROOT)') $(OUT:%=--out '%') $(form) $(ARGS)
captions: .venv/.caption  ## make caption tables: DATASET, SET or OUT (the shards) ENCODER XI CAPTIONS WORKERS ARGS
	@$(venv) -m caption captions $(places:%='%') $(CAPTIONS:%=--out '%') $(ENCODER:%=--encoder '%') $(XI:%=--xi '%') $(WORKERS:%=--workers '%') $(ARGS)
pretrain: .venv/.train  ## train a model: PRESET DATASET ENCODER NAME GPUS OUT (the shards) CAPTIONS ARGS
	@$(train) pretrain $(PRESET:%='%') $(inputs) $(ARGS)
finetune: .venv/.train  ## train from a run's weights: FROM (a run, or none) SET PRESET FRACTION NAME ENCODER GPUS OUT CAPTIONS ARGS
	@$(train) finetune $(PRESET:%='%') $(FROM:%=--from '%') $(FRACTION:%=--fraction '%') $(inputs) $(ARGS)
evaluate: .venv/.evaluate  ## measure a run: RUN SET (a name or a place) CAPTIONS ARGS
	@$(venv) -m evaluate metrics $(RUN:%='%') $(SET:%=--on '%') $(CAPTIONS:%=--captions '%') $(ARGS)
encoder: .venv/.demo .venv/.shaders $(if $(filter nano-emoji,$(ENCODER)),.venv/.emoji)  ## fit nano again, or ENCODER=nano-emoji or nano-scenes: 37, 17 and 13 minutes
	@$(venv) -m caption fit-encoder --recipe '$(or $(ENCODER),nano)' $(ARGS)
judge: .venv/.evaluate ; @$(venv) -m evaluate fit-judge --out data/judge $(ARGS)  ## fit the judge of scenes again, into data/judge: 20 minutes
formula-32: .venv/.evaluate .venv/.shaders ; @$(venv) -m evaluate.experiments.formula $(ARGS)  ## train the shipped model again, and compare its weights: 4 to 5 hours
speedrun: .venv/.evaluate ; @$(venv) -m evaluate.experiments.speedrun $(ARGS)  ## train diffusion-32 for 120 CPU seconds, three times, and compare with the record: ARGS
vet: .venv/.shaders ; @$(venv) -m synth vet shaders --out data/shaders $(ARGS)  ## try our shader programs again, into data/shaders
doctor: .venv/.shaders ; @$(venv) -m synth doctor $(ARGS)  ## show what draws shaders here, or what to install
test: .venv/.test .venv/.shaders .venv/.emoji  ## lint, check types, run the tests
	@$(style) || exit; $(types) & OMP_NUM_THREADS=1 $(venv) -m pytest -m "not soak" -n 2 --dist loadfile $(ARGS); tests=$$?; wait $$! && exit $$tests
soak: .venv/.test ; @$(venv) -m pytest -m soak $(ARGS)  ## run the long tests: kills at random moments, trainings
bench: .venv/.test .venv/.shaders  ## print the speed ratios of the READMEs
	@for part in synth fractals shaders data caption train stream live evaluate; do OMP_NUM_THREADS=1 $(venv) -m tests.bench.bench_$$part || exit; done
check-gpu: .venv/.test  ## check what only a GPU shows, in ten minutes
	@$(venv) -m tests.gpu_check $(ARGS)
lint: .venv/.test  ## ruff and mypy
	@$(style) && $(types)
# Stamps: system packages, and the extras of pyproject.toml, which contain one another, each in one pip call. A new pip resolves in a third of the time. Modules that seldom run are compiled as they are read.
.venv/.shaders .venv/.emoji: .venv/.data
	@$(venv) -m synth doctor --install $(@:.venv/.%=%) && touch $@
.venv/.%: pyproject.toml tests/constraints.txt
	@$(venv) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear --upgrade-deps .venv || { apt-get install -qq -y python3-venv; $(PYTHON) -m venv --clear .venv; }
	@echo "setting up .venv with [$*]" >&2; $(venv) -m pip install --quiet --disable-pip-version-check --no-compile \
	    --constraint tests/constraints.txt '.[$*]' && { $(venv) -m compileall -qq -j 0 -x '/(tests|testing|transformers/models|timm/models|_inductor|ray/(data|llm|rllib|serve|train|tune)|sympy|moto|mypyc?|pip|networkx|pygments)/' .venv/lib || true; } && touch $@ .venv/.synth $(if $(filter demo test,$*),$(addprefix .venv/.,data caption train evaluate))
