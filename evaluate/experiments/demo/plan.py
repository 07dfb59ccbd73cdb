"""The plan of the demo: its sizes, and its steps, each an ordinary command of a stage.

Independent steps run in parallel: training from scratch beside formulas, pre-training and fine-tuning. A step
is done when its command has succeeded and its result exists.
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
_SIDE = 32  # pixels a side in the presets
_BATCH = 32  # in the presets
_POINTS = 4  # of the fine-tuning's curve
_JUDGED = 200  # pictures of a family, at most


@dataclass(frozen=True)
class Plan:
    """The sizes of a demo. Raises UserError for a size that is not allowed."""

    pretraining: int = 24_000  # formula pictures seen
    finetuning: int = 16_000  # emoji seen
    pictures: int = 4_096  # rendered per family
    size: int = 32  # pixels a side
    font: str | None = None  # file; None: that of Debian's package
    encoder: str = ENCODER
    families: tuple[str, ...] = FAMILIES
    measured: int = 400  # pictures per checkpoint

    def __post_init__(self) -> None:
        for name in ("pretraining", "finetuning", "pictures"):
            if getattr(self, name) < _BATCH:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least {_BATCH}, a batch")
        if self.size not in _SIDES:
            sides = ", ".join(map(str, _SIDES))
            raise UserError(f"--size is {self.size}; the demo draws pictures of {sides} pixels a side")
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
class DemoStep:
    """A command and its result."""

    name: str
    what: str
    command: tuple[str, ...]  # after `python -m`
    makes: Path  # a file, or a run
    after: tuple[str, ...] = ()  # names of the steps before it
    images: int = 0  # length of the run; 0: the result is a file

    @property
    def stage(self) -> str:
        """The package of the command."""
        return self.command[0].partition(".")[0]

    @property
    def line(self) -> str:
        """The command as a user types it."""
        return f"python -m {shlex.join(self.command)}"

    @property
    def exists(self) -> bool:
        """True if the result exists."""
        return any(not self.images or int(mark.parent.name) >= self.images for mark in self.marks)

    @property
    def marks(self) -> list[Path]:
        """The existing files that mark the result: the file itself, or the marks of a run's checkpoints."""
        if not self.images:
            return [self.makes] if self.makes.exists() else []

        # train.checkpoint imports torch, which the rest of the driver does not need.
        from train import checkpoint

        return [folder / checkpoint.COMMITTED for folder in checkpoint.committed(self.makes)]


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


def steps(plan: Plan, out: Path) -> list[DemoStep]:
    """Returns the steps of a demo. Independent steps begin in this order."""
    at = Places(out)
    pretrained = [_pretrain(plan, at), _finetune(plan, at)]
    return [*_emoji(plan, at), *_scratch(plan, at), *_formulas(plan, at), *pretrained, *_measuring(plan, at)]


def at_scale(plan: Plan) -> list[tuple[str, str]]:
    """Returns the purpose of each stage, with its command at the paper's size."""
    # Commands.
    sets = f"DATASET={shlex.quote(' '.join(plan.families))}"
    pretrain = f"make pretrain {sets} PRESET=paper-256 NAME=formulas GPUS=8"
    data = "make data SET=coco ROOT=DIR\nmake captions SET=coco"
    sources = ("runs/formulas", "none")
    finetune = "\n".join(f"make finetune SET=coco FROM={s} FRACTION=0.1 GPUS=8" for s in sources)
    evaluate = "make evaluate SET=coco RUN=runs/coco-coco-256-from-formulas"

    # Their purposes.
    shards = "a million pictures of each family at 256 px; with ARGS on a cluster"
    return [
        (shards, f"make shards {sets} N=1000000"),
        ("captions by CLIP", f"make captions {sets}"),
        ("pre-training with the paper's settings, here on eight GPUs", pretrain),
        ("a real captioned set, from its owner's files", data),
        ("fine-tuning on a tenth of it, and the same from scratch", finetune),
        ("FID, KID, IS and more on 30,000 held-out captions", evaluate),
    ]


def _emoji(plan: Plan, at: Places) -> list[DemoStep]:
    font = ("--font", plan.font) if plan.font else ()
    command = ("data", "emoji", "--out", str(at.out / "emoji"), "--size", str(plan.size), *font)
    emoji = DemoStep("emoji", "the emoji set", command, at.shards(TEST) / "manifest.json")
    return [emoji, _captions(plan, at, TRAIN, "emoji"), _captions(plan, at, TEST, "emoji")]


def _formulas(plan: Plan, at: Places) -> list[DemoStep]:
    """Returns the steps of the families.

    All render before any is captioned, so that a missing renderer fails early."""
    sizes = ("--n", str(plan.pictures), "--size", str(plan.size), "--workers", "0")
    shards: list[DemoStep] = []
    for family in plan.families:
        command = ("synth", "shards", family, *sizes, "--out", str(at.shards(family)))
        result = at.shards(family) / "manifest.json"
        shards.append(DemoStep(f"shards {family}", f"pictures of {family}", command, result))
    return [*shards, *(_captions(plan, at, family, f"shards {family}") for family in plan.families)]


def _captions(plan: Plan, at: Places, name: str, after: str) -> DemoStep:
    options = ("--encoder", plan.encoder, "--out", str(at.captions(name)), "--workers", "0")
    command = ("caption", "captions", str(at.shards(name)), *options)
    result = at.captions(name) / "manifest.json"
    return DemoStep(f"captions {name}", f"captions of {name}", command, result, (after,))


def _pretrain(plan: Plan, at: Places) -> DemoStep:
    options = (*_data(at, plan.families), *_training(plan, at, PRETRAINED, plan.pretraining))
    command = ("train", "pretrain", "tiny-32", *options)
    after = tuple(f"captions {family}" for family in plan.families)
    return DemoStep(
        "pretrain", "pre-training on formulas", command, at.run(PRETRAINED), after, plan.pretraining
    )


def _finetune(plan: Plan, at: Places) -> DemoStep:
    options = (*_data(at, [TRAIN]), *_training(plan, at, FINETUNED, plan.finetuning))
    command = ("train", "finetune", "emoji-32", "--from", str(at.run(PRETRAINED)), *options)
    after = ("pretrain", f"captions {TRAIN}")
    return DemoStep("finetune", "fine-tuning on emoji", command, at.run(FINETUNED), after, plan.finetuning)


def _scratch(plan: Plan, at: Places) -> list[DemoStep]:
    """Returns the steps of training from scratch, of continuing it, and of an untrained generator.

    The untrained run takes one step at a learning rate of 0."""
    # Commands.
    start = ("train", "pretrain", "emoji-32", *_data(at, [TRAIN]))
    short, long = plan.finetuning, plan.pretraining + plan.finetuning
    zero = ("--set", "training.g_lr=0", "--set", "training.d_lr=0")
    scratch = (*start, *_training(plan, at, SCRATCH, short))
    longer = (*start, *_training(plan, at, SCRATCH, long))
    untrained = (*start, *_training(plan, at, UNTRAINED, 1), *zero)

    # Steps.
    what, never = "training on emoji from scratch", "a generator that was never trained"
    run, after = at.run(SCRATCH), (f"captions {TRAIN}",)
    return [
        DemoStep("scratch", what, scratch, run, after, short),
        DemoStep("scratch-long", f"{what}, continued", longer, run, ("scratch",), long),
        DemoStep("untrained", never, untrained, at.run(UNTRAINED), after, 1),
    ]


def _measuring(plan: Plan, at: Places) -> list[DemoStep]:
    """Returns the steps of KID and of attribute agreement."""
    # KID of the four runs.
    reference = ("--on", str(at.shards(TEST)), "--captions", str(at.captions(TEST)))
    kid = (*reference, "--n", str(plan.measured), "--metrics", "kid", "--detector", DETECTOR)
    steps: list[DemoStep] = []
    for name, kind, after in (
        (UNTRAINED, "metrics", UNTRAINED),
        (PRETRAINED, "metrics", "pretrain"),
        (SCRATCH, "curve", "scratch-long"),
        (FINETUNED, "curve", "finetune"),
    ):
        command = ("evaluate", kind, str(at.run(name)), *kid)
        result = at.run(name) / results.NAME
        steps.append(DemoStep(f"kid {name}", f"KID, {name}", command, result, (after, f"captions {TEST}")))

    # Attribute agreement of the pre-trained run.
    run = at.run(PRETRAINED)
    sets = tuple(word for family in plan.families for word in ("--on", str(at.shards(family))))
    options = (*sets, "--n", str(plan.judged), "--detector", DETECTOR)
    agreement = ("evaluate", "agreement", str(run), *options)
    after_kid = ("kid pretrained",)
    return [DemoStep("agreement", "attribute agreement", agreement, run / results.NAME, after_kid), *steps]


def _data(at: Places, names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Returns the options that name sets and their tables."""
    shards = [word for name in names for word in ("--on", str(at.shards(name)))]
    return (*shards, *(word for name in names for word in ("--captions", str(at.captions(name)))))


def _training(plan: Plan, at: Places, name: str, images: int) -> tuple[str, ...]:
    """Returns the options of a run.

    The run has no reader processes: it starts faster, and small pictures need none."""
    settings = ["run.workers=0", f"run.checkpoint={plan.every}"]
    if plan.size != _SIDE:
        settings.append(f"model.resolution={plan.size}")

    # Tables record the name of an encoder, but not its path.
    has_path = "=" in plan.encoder or Path(plan.encoder).is_dir()
    encoder = ("--encoder", plan.encoder) if has_path else ()
    options = ("--out", str(at.run(name)), "--images", str(images), *encoder)
    return (*options, *(word for setting in settings for word in ("--set", setting)))
