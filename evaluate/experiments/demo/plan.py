"""The plan of the demo: its sizes, and its steps, each an ordinary command of a stage.

Independent steps run in parallel, such as training from scratch and the chain of formulas, pre-training and
fine-tuning. A step is done when its command has succeeded and its result exists.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from evaluate import results
from synth.errors import UserError

ENCODER = "nano-emoji"
DETECTOR = "efficientnet-lite0"
FAMILIES = ("visual_atoms", "fractals", "shaders")
PRETRAINED, FINETUNED, SCRATCH, UNTRAINED = ("pretrained", "finetuned", "scratch", "untrained")
TRAIN, TEST = "emoji-train", "emoji-test"

_SIDES = (16, 32, 64, 128)
_SIDE = 32  # pixels a side of the presets
_BATCH = 32  # of the presets
_POINTS = 4  # of the fine-tuning's curve
_JUDGED = 200


@dataclass(frozen=True)
class Plan:
    """The sizes of a demo. Raises UserError for one that is not allowed."""

    pretraining: int = 24_000  # formula pictures seen
    finetuning: int = 16_000  # emoji seen
    pictures: int = 4_096  # rendered, of each family
    size: int = 32  # pixels a side
    font: str | None = None  # file; None: that of Debian's package
    encoder: str = ENCODER
    families: tuple[str, ...] = FAMILIES
    measured: int = 400  # pictures of a checkpoint

    def __post_init__(self) -> None:
        least_of = {"pretraining": _BATCH, "finetuning": _BATCH, "pictures": _BATCH}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least {least}, a batch")
        if self.size not in _SIDES:
            raise UserError(
                f"--size is {self.size}; the demo draws pictures of {', '.join(map(str, _SIDES))} pixels a side"
            )
        if self.measured < 4:
            raise UserError(f"--measured is {self.measured}; KID needs at least 4 pictures")

    @property
    def every(self) -> int:
        """Images between two measured checkpoints."""
        return max(self.finetuning // _POINTS, _BATCH)

    @property
    def judged(self) -> int:
        """Pictures of a family for attribute agreement. Half of them fit its judge."""
        return min(self.pictures, _JUDGED)


@dataclass(frozen=True)
class Step:
    """A command and its result."""

    name: str
    what: str
    command: tuple[str, ...]  # after `python -m`
    makes: Path  # a file, or a run
    after: tuple[str, ...] = ()  # steps whose results it needs
    images: int = 0  # images seen by the run at its end

    @property
    def stage(self) -> str:
        """The package of the command."""
        return self.command[0].partition(".")[0]

    @property
    def line(self) -> str:
        """The command as a user types it."""
        return f"python -m {shlex.join(self.command)}"

    @property
    def left(self) -> bool:
        """True if the result exists."""
        return any(not self.images or int(mark.parent.name) >= self.images for mark in self.marks)

    @property
    def marks(self) -> list[Path]:
        """The files that mark the result: of a run, the marks of its checkpoints."""
        if self.images:
            from train import checkpoint  # imports torch, which the rest of the driver does not need

            return [found / checkpoint.COMMITTED for found in checkpoint.committed(self.makes)]
        return [self.makes] if self.makes.exists() else []


@dataclass(frozen=True)
class Places:
    """The folders of a demo."""

    out: Path

    def run(self, name: str) -> Path:
        """Returns a run's folder."""
        return self.out / "runs" / name

    def shards(self, name: str) -> Path:
        """Returns the folder of a set: a family's, or a split of the emoji."""
        return self.out / name.replace("-", "/") if name in (TRAIN, TEST) else self.out / "shards" / name

    def captions(self, name: str) -> Path:
        """Returns the folder of a set's tables."""
        return self.out / "captions" / name


def steps(plan: Plan, out: Path) -> list[Step]:
    """Returns the steps of a demo. Of independent steps, the first begin first."""
    at = Places(out)
    pretrained = [_pretrain(plan, at), _finetune(plan, at)]
    return [*_emoji(plan, at), *_scratch(plan, at), *_formulas(plan, at), *pretrained, *_measuring(plan, at)]


def at_scale(plan: Plan) -> list[tuple[str, str]]:
    """Returns the purpose of each stage, with its command at the paper's size."""
    sets = f"DATASET={shlex.quote(' '.join(plan.families))}"
    tuned = "\n".join(_tuned(source) for source in ("runs/formulas", "none"))
    return [
        (
            "a million pictures of each family at 256 px; with ARGS on a cluster",
            f"make shards {sets} N=1000000",
        ),
        ("captions by CLIP", f"make captions {sets}"),
        (
            "pre-training by the paper's settings, here on eight GPUs",
            f"make pretrain {sets} PRESET=paper-256 NAME=formulas GPUS=8",
        ),
        (
            "a real captioned set, from its owner's files",
            "make data SET=coco ROOT=DIR\nmake captions SET=coco",
        ),
        ("fine-tuning on a tenth of it, and the same from scratch", tuned),
        (
            "FID, KID, IS and more on 30,000 held-out captions",
            "make evaluate SET=coco RUN=runs/coco-coco-256-from-formulas",
        ),
    ]


def _tuned(source: str) -> str:
    return f"make finetune SET=coco FROM={source} FRACTION=0.1 GPUS=8"


def _emoji(plan: Plan, at: Places) -> list[Step]:
    font = ("--font", plan.font) if plan.font else ()
    command = ("data", "emoji", "--out", str(at.out / "emoji"), "--size", str(plan.size), *font)
    prepared = Step("emoji", "the emoji set", command, at.shards(TEST) / "manifest.json")
    return [prepared, _captions(plan, at, TRAIN, "emoji"), _captions(plan, at, TEST, "emoji")]


def _formulas(plan: Plan, at: Places) -> list[Step]:
    """Returns the steps of the families.

    All render before any is captioned, so that a missing renderer fails early."""
    sizes = ("--n", str(plan.pictures), "--size", str(plan.size), "--workers", "0")
    rendered = [
        Step(
            f"shards {f}",
            f"pictures of {f}",
            ("synth", "shards", f, *sizes, "--out", str(at.shards(f))),
            at.shards(f) / "manifest.json",
        )
        for f in plan.families
    ]
    return [*rendered, *(_captions(plan, at, family, f"shards {family}") for family in plan.families)]


def _captions(plan: Plan, at: Places, name: str, after: str) -> Step:
    options = ("--encoder", plan.encoder, "--out", str(at.captions(name)), "--workers", "0")
    command = ("caption", "captions", str(at.shards(name)), *options)
    return Step(
        f"captions {name}", f"captions of {name}", command, at.captions(name) / "manifest.json", (after,)
    )


def _pretrain(plan: Plan, at: Places) -> Step:
    command = (
        "train",
        "pretrain",
        "tiny-32",
        *_data(at, plan.families),
        *_training(plan, at, PRETRAINED, plan.pretraining),
    )
    after = tuple(f"captions {family}" for family in plan.families)
    return Step("pretrain", "pre-training on formulas", command, at.run(PRETRAINED), after, plan.pretraining)


def _finetune(plan: Plan, at: Places) -> Step:
    source = ("--from", str(at.run(PRETRAINED)))
    command = (
        "train",
        "finetune",
        "emoji-32",
        *source,
        *_data(at, [TRAIN]),
        *_training(plan, at, FINETUNED, plan.finetuning),
    )
    return Step(
        "finetune",
        "fine-tuning on emoji",
        command,
        at.run(FINETUNED),
        ("pretrain", f"captions {TRAIN}"),
        plan.finetuning,
    )


def _scratch(plan: Plan, at: Places) -> list[Step]:
    """Returns the steps of training from scratch, of continuing it, and of an untrained generator.

    The untrained run takes one step at a learning rate of 0."""
    start = ("train", "pretrain", "emoji-32", *_data(at, [TRAIN]))
    long = plan.pretraining + plan.finetuning
    still = ("--set", "training.g_lr=0", "--set", "training.d_lr=0")
    told, what, untrained = (
        (f"captions {TRAIN}",),
        "training on emoji from scratch",
        (*_training(plan, at, UNTRAINED, 1), *still),
    )
    return [
        Step(
            "scratch",
            what,
            (*start, *_training(plan, at, SCRATCH, plan.finetuning)),
            at.run(SCRATCH),
            told,
            plan.finetuning,
        ),
        Step(
            "scratch-long",
            f"{what}, carried on",
            (*start, *_training(plan, at, SCRATCH, long)),
            at.run(SCRATCH),
            ("scratch",),
            long,
        ),
        Step(
            "untrained",
            "a generator that was never trained",
            (*start, *untrained),
            at.run(UNTRAINED),
            told,
            1,
        ),
    ]


def _measuring(plan: Plan, at: Places) -> list[Step]:
    emoji = (
        "--on",
        str(at.shards(TEST)),
        "--captions",
        str(at.captions(TEST)),
        "--n",
        str(plan.measured),
    )
    kid = (*emoji, "--metrics", "kid", "--detector", DETECTOR)
    kinds = {
        UNTRAINED: ("metrics", UNTRAINED),
        PRETRAINED: ("metrics", "pretrain"),
        SCRATCH: ("curve", "scratch-long"),
    }
    made: list[Step] = []
    for name, (kind, after) in {**kinds, FINETUNED: ("curve", "finetune")}.items():
        command = ("evaluate", kind, str(at.run(name)), *kid)
        made.append(
            Step(
                f"kid {name}",
                f"KID, {name}",
                command,
                at.run(name) / results.NAME,
                (after, f"captions {TEST}"),
            )
        )
    sets = tuple(word for family in plan.families for word in ("--on", str(at.shards(family))))
    asked = (
        "evaluate",
        "agreement",
        str(at.run(PRETRAINED)),
        *sets,
        "--n",
        str(plan.judged),
        "--detector",
        DETECTOR,
    )
    judged = Step(
        "agreement", "attribute agreement", asked, at.run(PRETRAINED) / results.NAME, ("kid pretrained",)
    )
    return [judged, *made]


def _data(at: Places, names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    shards = [word for name in names for word in ("--on", str(at.shards(name)))]
    return (*shards, *(word for name in names for word in ("--captions", str(at.captions(name)))))


def _training(plan: Plan, at: Places, name: str, images: int) -> tuple[str, ...]:
    """Returns the options of a run.

    The run has no reader processes: it starts faster, and small pictures need none."""
    settings = [
        "run.workers=0",
        f"run.checkpoint={plan.every}",
        *([f"model.resolution={plan.size}"] if plan.size != _SIDE else []),
    ]
    where = (
        ("--encoder", plan.encoder) if "=" in plan.encoder or Path(plan.encoder).is_dir() else ()
    )  # tables do not store the path
    return (
        "--out",
        str(at.run(name)),
        "--images",
        str(images),
        *where,
        *(word for s in settings for word in ("--set", s)),
    )
