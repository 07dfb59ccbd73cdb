"""The usual steps of experiments: sets with captions, small denoisers, their held-out loss and grids.

All pictures have 32 pixels a side. Foreseen seconds are CPU seconds of one core (AMD EPYC).
"""

from collections.abc import Sequence
from typing import NamedTuple

from evaluate.experiments.table import OUT, PICTURE, Inside, Step, settings, step

ENCODER = "nano-emoji"
EMOJI = 3_389  # training pictures of Debian 12's font; another version gives slightly other n
HELD_OUT = 400  # emoji that no step trains on
PROBED = 20_000  # pictures of CIFAR-10 that probes train on
GRID = ("smiling face", "red heart", "frog", "police officer", "house", "flag: Japan", "pizza", "sun")

_SIDE = ("--size", 32, "--workers", 0)
_TABLES = ("--encoder", ENCODER, "--workers", 0)
_MB = 30.0  # of a checkpoint with its optimisers

_STEADY = ("training.decay_to=0", "training.decay_from=0")  # a constant rate

Place = Step | Inside


class Captioned(NamedTuple):
    """A set with its caption tables."""

    shards: Place
    tables: Step

    @property
    def options(self) -> tuple[str | Place, ...]:
        """The options that name both."""
        return ("--on", self.shards, "--captions", self.tables)


class Net(NamedTuple):
    """A small denoiser: its preset, settings, and CPU seconds of a picture."""

    preset: str
    changes: tuple[str, ...]
    seconds: float


# Reads the caption vector alone, in small batches.
VECTOR = Net(
    "diffusion-32",
    (
        "model.channels=32,32,32,32",
        "model.embedding=64",
        "model.text_width=64",
        "training.batch=16",
        "training.warm_up=480",
        "training.drop_words=1",
        "training.drop_vector=0",
        *_STEADY,
    ),
    0.0067,
)
# Reads words alone: the model of the preset.
WORDS = Net("diffusion-32", ("training.drop_vector=1", *_STEADY), 0.011)


def rates(factor: float) -> tuple[str, ...]:
    """Returns the settings of `factor` times the preset's learning rates."""
    return f"training.lr={0.002 * factor:g}", f"training.muon_lr={0.004 * factor:g}"


def augmented(factor: float) -> tuple[str, ...]:
    """Returns the settings of mirrored pictures and of `factor` times the preset's learning rates."""
    return "data.mirror=true", *rates(factor)


def emoji(split: str = "train") -> Captioned:
    """Returns a split of the emoji with captions."""
    whole = step("data", "emoji", "--out", OUT, *_SIDE, seconds=60, megabytes=20)
    return _captioned(whole / split, EMOJI if split == "train" else HELD_OUT)


def formulas(dataset: str, pictures: int = 7_000, seed: int = 0) -> Captioned:
    """Returns a set of formula pictures with captions."""
    count = ("--n", pictures, "--seed", seed)
    seconds, megabytes = 10 + pictures / 500, pictures / 300
    words = ("synth", "shards", dataset, *count, *_SIDE, "--out", OUT)
    shards = step(*words, seconds=seconds, megabytes=megabytes)
    return _captioned(shards, pictures)


def pretrained(net: Net, data: Captioned, images: int, seed: int, *more: str, text: str = "pseudo") -> Step:
    """Returns a run on formula pictures, by default on the vectors of pictures."""
    return _run("pretrain", net, data.options, images, images, seed, (*more, f"data.text={text}"))


def live(net: Net, dataset: str, images: int, seed: int, text: str, *more: str) -> Step:
    """Returns a run from scratch on new pictures of a data set at every visit."""
    return _run("pretrain", net, ("--live", dataset), images, images, seed, (f"data.text={text}", *more))


def tuned(
    net: Net, source: Step | str | None, n: int, images: int, every: int, seed: int, *more: str
) -> Step:
    """Returns a run on n emoji, from the weights of another run or of a shipped model, or from scratch.

    The seed chooses the n."""
    origin = ("--from", source or "none", "--fraction", f"{n / EMOJI:.6f}")
    changes = ("data.text=caption", *more)
    return _run("finetune", net, (*emoji().options, *origin), images, every, seed, changes)


def loss(run: Step, text: str, looks: int) -> Step:
    """Returns the held-out loss of every checkpoint, with texts as `words` or `vector`."""
    on = ("--on", emoji("test").shards, "--n", HELD_OUT, "--text", "short", "--draw", f"text={text}")
    return step("evaluate", "loss", run, *on, "--curve", "--device", "cpu", seconds=5 + looks)


def grid(run: Step, text: str) -> Step:
    """Returns a grid of eight prompts, two pictures each, drawn by the end of a run."""
    options = ("--n", 2, "--seed", 7, "--text", text, "--guidance", 2.5, "--steps", 18, "--device", "cpu")
    return step("train", "sample", run, *GRID, *options, "--out", PICTURE, seconds=8, megabytes=0.1)


def pairs(run: Step, text: str) -> Step:
    """Returns a sheet of held-out emoji, each beside what the end of a run draws of its caption."""
    drawing = (*_drawing(f"text={text}", "guidance=2.5", "steps=18"), "--device", "cpu")
    options = ("--on", emoji("test").shards, "--n", 24, "--seed", 7, *drawing)
    return step("evaluate", "grid", run, *options, "--out", PICTURE, seconds=8, megabytes=0.2)


def kernel_distance(
    run: Step,
    text: str,
    label: str = "",
    *,
    on: Captioned | Place | None = None,
    draw: Sequence[str] = (),
    metrics: str = "kid",
) -> Step:
    """Returns the kernel distance of what the end of a run draws of held-out captions: emoji, or those of a
    set. `draw` has further options of drawing, and `metrics` lists further figures besides. A run of words
    alone takes a set without tables."""
    test, figure = on or emoji("test"), ("--metrics", metrics, "--detector", "efficientnet-lite0")
    drawing = (*_drawing(f"text={text}", *draw), "--device", "cpu")
    data = test.options if isinstance(test, Captioned) else ("--on", test)
    words = ("evaluate", "metrics", run, *data, "--n", HELD_OUT)
    return step(*words, *figure, *drawing, seconds=80, label=label)


def statistics(data: Captioned) -> Step:
    """Returns cheap statistics of a set's pictures."""
    return step("evaluate", "statistics", data.shards, seconds=30)


def distance(data: Captioned, target: Captioned) -> Step:
    """Returns the kernel distance of a set's pictures to those of another, in the features of nano."""
    figure = ("--metrics", "kid", "--detector", "nano", "--device", "cpu")
    return step("evaluate", "compare", data.shards, target.shards, *figure, seconds=60)


def obedience(run: Step, facts: int, label: str, *draw: str) -> Step:
    """Returns how often pictures have the facts of their prompts, after words alone."""
    words = ("evaluate", "obedience", run, "--on", "scenes_flat", "--facts", facts, "--n", 128)
    return step(*words, *_drawing("text=words", *draw), "--device", "cpu", seconds=25, label=label)


def cifar(split: str) -> Inside:
    """Returns a split of CIFAR-10."""
    return (
        step("data", "cifar10", "--root", "~/cifar10", *_SIDE, "--out", OUT, seconds=60, megabytes=150)
        / split
    )


def probed(preset: str, sets: Sequence[Step], images: int, seconds: float, seed: int, *changes: str) -> Step:
    """Returns the probe of a run of a preset with changes. `seconds` are CPU seconds of a picture."""
    given = settings(*changes, f"training.seed={seed}", f"run.checkpoint={images}", "run.workers=0")
    data = [word for each in sets for word in ("--on", each)]
    form = ("--precision", "fp32", "--device", "cpu", "--out", OUT)
    cost, command = 10 + images * seconds, ("train", "pretrain", preset)
    run = step(*command, *data, "--images", images, *given, *form, seconds=cost, megabytes=20)
    places = ("--train", cifar("train"), "--test", cifar("test"), "--n", PROBED)
    probes = ("--probes", "ridge,knn,few", "--baselines", "none", "--device", "cpu")
    return step("evaluate", "probe", run, *places, *probes, seconds=150)


def _drawing(*values: str) -> tuple[str, ...]:
    """Returns the words of options of drawing: --draw NAME=VALUE for each."""
    return tuple(word for value in values for word in ("--draw", value))


def _captioned(shards: Place, pictures: int) -> Captioned:
    tables = step("caption", "captions", shards, *_TABLES, "--out", OUT, seconds=10 + pictures / 300)
    return Captioned(shards, tables)


def _run(
    kind: str,
    net: Net,
    data: tuple[str | Place, ...],
    images: int,
    every: int,
    seed: int,
    changes: tuple[str, ...],
) -> Step:
    """Returns a run in float32 on one core, with a checkpoint after each `every` images."""
    periods = (f"run.checkpoint={every}", f"run.tick={every}", f"run.samples={2 * images}", "run.workers=0")
    words = (*data, "--images", images, "--precision", "fp32", "--device", "cpu")
    given = settings(*net.changes, *changes, *periods, f"training.seed={seed}")
    seconds, megabytes = 8 + images * net.seconds, _MB * (2 + images / every / 5)
    command = ("train", kind, net.preset, *words, *given, "--out", OUT)
    return step(*command, seconds=seconds, megabytes=megabytes)
