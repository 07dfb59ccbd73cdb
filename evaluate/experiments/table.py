"""Tables of experiments: steps, arms, figures and hypotheses.

A step is an ordinary command of a stage. Words of its command may be outputs of other steps, so an arm is
given by its last steps. A step's address is the digest of its words, its law and the addresses of the steps
before it. Steps of one address are one step, whatever arms, seeds or experiments they belong to.
"""

import functools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluate.experiments import laws
from synth.errors import UserError
from synth.settings import digest

FOLDER = "steps"  # of the outputs, in the folder of an experiment

_BEST, _CLAIMS = ("lowest", "highest", "last"), ("lower", "higher")
_SHORT = re.compile(r"[\w.-]{1,60}")  # a word that may be part of the name of a file

Json = dict[str, Any]


@dataclass(frozen=True)
class Own:
    """The output of the step itself, as a word of its command."""

    suffix: str = ""  # of a file; empty: a folder


OUT, PICTURE = Own(), Own(".png")


@dataclass(frozen=True)
class Inside:
    """A folder within the output of a step, such as a split of a real set."""

    step: "Step"
    name: str


@dataclass(frozen=True)
class Step:
    """A command and its output. `step` makes one."""

    words: tuple["str | Own | Inside | Step", ...]  # after `python -m`
    law: Json  # of the command
    seconds: float = 0.0  # of one core, foreseen
    megabytes: float = 0.0  # of the output, foreseen
    gpu: bool = False  # True if the command can use one
    label: str = ""  # the entry `step` of the rows that it prints, and the title of its picture
    lasts: bool = True  # False: the output is removed when no unfinished arm reads it

    def __truediv__(self, name: str) -> Inside:
        return Inside(self, name)

    @functools.cached_property
    def address(self) -> str:
        """The sha256 of the step's content."""
        return digest({"words": [_content(word) for word in self.words], "law": self.law})

    @property
    def name(self) -> str:
        """The name of the step's files: its command, and the beginning of its address.

        Places and long texts are left out of it."""
        words = [word for word in self.words[:2] if isinstance(word, str) and _SHORT.fullmatch(word)]
        return "-".join([*words, self.address[:12]])

    @property
    def makes(self) -> str:
        """The output, relative to the experiment's folder. Empty if the step only prints figures."""
        outputs = [word for word in self.words if isinstance(word, Own)]
        return f"{FOLDER}/{self.name}{outputs[0].suffix}" if outputs else ""

    @property
    def before(self) -> list["Step"]:
        """The steps with the outputs that this one reads."""
        return [w.step if isinstance(w, Inside) else w for w in self.words if isinstance(w, Step | Inside)]

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command, with places relative to the experiment's folder."""
        return tuple(self._word(word) for word in self.words)

    @property
    def line(self) -> str:
        """The command as a user types it in the experiment's folder."""
        return f"python -m {shlex.join(self.command)}"

    def _word(self, word: "str | Own | Inside | Step") -> str:
        match word:
            case Own():
                return self.makes
            case Step():
                return word.makes
            case Inside(step, name):
                return f"{step.makes}/{name}"
        return word


def step(
    *words: "str | float | Own | Inside | Step",
    seconds: float = 0.0,
    megabytes: float = 0.0,
    label: str = "",
    law: int | None = None,
    lasts: bool | None = None,
) -> Step:
    """Returns a step. Its words are those of a command after `python -m`, with OUT for its own output.

    A command of a stage has the law of this checkout. Any other command needs a `law`, a number that is
    raised when it gives another result. Raises UserError for one without. By default, runs do not last.
    The rows that steps print get the entry `step`, their label. A picture has its arm's name as its title
    unless its step has a label."""
    kept = tuple(word if isinstance(word, Own | Inside | Step) else str(word) for word in words)
    texts = [word if isinstance(word, str) else "" for word in kept]
    stated = laws.of(texts) if law is None else {"law": law}
    on_cpu = "cpu" in laws.values(texts, "--device")
    gpu = texts[0] in ("caption", "train", "evaluate") and law is None and not on_cpu
    run = texts[0] == "train" and OUT in kept
    return Step(kept, stated, seconds, megabytes, gpu, label, not run if lasts is None else lasts)


def settings(*changes: str) -> tuple[str, ...]:
    """Returns the words that change settings: --set GROUP.KEY=VALUE for each."""
    return tuple(word for change in changes for word in ("--set", change))


def chain(last: Sequence[Step]) -> list[Step]:
    """Returns the steps that lead to the last ones, these included, each once and after those it reads."""
    steps: dict[str, Step] = {}

    def add(each: Step) -> None:
        if each.address not in steps:
            for earlier in each.before:
                add(earlier)
            steps[each.address] = each

    for each in last:
        add(each)
    return list(steps.values())


@dataclass(frozen=True)
class Arm:
    """A chain of commands. Its last steps print its figures and draw its pictures."""

    name: str
    steps: Callable[[int], Sequence[Step]]  # seed -> last steps
    n: int | None = None  # real pictures
    series: str = ""  # name of the arms that differ in n alone
    seeds: int | None = None  # at most; None: those of the experiment

    def last(self, seed: int) -> Sequence[Step]:
        """Returns the last steps of a seed. Raises UserError if the arm's function gives none."""
        return _last(self, seed)

    def chain(self, seed: int) -> Sequence[Step]:
        """Returns all steps of a seed, in order."""
        return _chain(self, seed)

    def address(self, seed: int) -> str:
        """Returns the address of the arm's last steps."""
        return digest([each.address for each in self.last(seed)])


@dataclass(frozen=True)
class Reading:
    """A figure of an arm: the rows of one metric that its steps print, and the way to one number."""

    name: str
    metric: str
    best: str = "lowest"  # lowest, highest or last along the checkpoints
    where: Mapping[str, Any] = field(default_factory=dict)  # further entries of the rows
    key: str = "value"  # the entry of a row with the number
    ratio: bool = True  # arms are compared by the ratio of their figures, else by the difference

    def __post_init__(self) -> None:
        """Raises UserError if `best` is another word."""
        if self.best not in _BEST:
            raise UserError(f"best of the figure {self.name!r} is {self.best!r}; give {_one_of(_BEST)}")

    @property
    def stated(self) -> Json:
        """The figure as plain JSON."""
        return {**vars(self), "where": dict(self.where)}


@dataclass(frozen=True)
class Hypothesis:
    """The claim that an arm's endpoint is lower than another's, or higher."""

    name: str
    arm: str
    other: str
    claim: str = "lower"  # or higher

    def __post_init__(self) -> None:
        """Raises UserError if the claim is another word."""
        if self.claim not in _CLAIMS:
            raise UserError(f"the claim of {self.name} is {self.claim!r}; give {_one_of(_CLAIMS)}")


@dataclass(frozen=True)
class Exchange:
    """The question how many pictures of a series m pictures of another are worth."""

    series: str
    m: int
    other: str  # a series

    def __str__(self) -> str:
        return f"{self.m} pictures of {self.series} in pictures of {self.other}"


@dataclass(frozen=True)
class Contrast:
    """Two arms to set side by side without a test, such as those of a single seed."""

    arm: str
    other: str


@dataclass(frozen=True)
class Experiment:
    """A table of arms. Raises UserError for claims over unknown arms, series or figures."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    endpoint: Reading
    others: tuple[Reading, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    predictors: tuple[str, ...] = ()  # names of other figures that may foresee the order of the arms
    seeds: int = 5  # registered
    keep: bool = False  # the runs of finished arms; else they are removed
    gpus: float = 1.0  # of a step that can use one, if there are any
    limits: str = ""  # sentences for the report
    link: str = ""  # a page of this checkout with more, such as README.md#anchor

    def __post_init__(self) -> None:
        given = {"arms": [arm.name for arm in self.arms], "figures": [each.name for each in self.figures]}
        for what, names in given.items():
            if len(set(names)) < len(names):
                raise UserError(f"two {what} of {self.name} have one name; give each a name of its own")
        pairs: tuple[Hypothesis | Contrast, ...] = (*self.hypotheses, *self.contrasts)
        for name in (name for each in pairs for name in (each.arm, each.other)):
            self.arm(name)
        series = {arm.series for arm in self.arms}
        for name in (name for each in self.exchanges for name in (each.series, each.other)):
            if name not in series:
                known = ", ".join(sorted(series - {""}))
                raise UserError(f"{self.name} has no series {name!r}; known are {known or 'none'}")
        for each in self.exchanges:
            if (each.series, each.m) not in [(arm.series, arm.n) for arm in self.arms]:
                problem = f"{self.name} has no arm of the series {each.series} with n = {each.m}"
                raise UserError(f"{problem}; add it, or change the exchange")
        figures = [figure.name for figure in self.others]
        for name in self.predictors:
            if name not in figures:
                known = ", ".join(figures) or "none"
                raise UserError(f"{self.name} has no other figure {name!r}; known are {known}")

    @property
    def figures(self) -> tuple[Reading, ...]:
        """All figures, the endpoint first."""
        return (self.endpoint, *self.others)

    def arm(self, name: str) -> Arm:
        """Returns the arm of a name. Raises UserError if it is unknown, and lists all arms."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise UserError(f"{self.name} has no arm {name!r}; known are {', '.join(a.name for a in self.arms)}")

    def pairs(self, seeds: int) -> Iterator[tuple[Arm, int]]:
        """Yields every arm of the first seeds, seed by seed, so that whole pairs are done first."""
        for seed in range(seeds):
            yield from ((arm, seed) for arm in self.arms if seed < (arm.seeds or seeds))


@functools.cache
def _last(arm: Arm, seed: int) -> tuple[Step, ...]:
    # Laws take a while, and every decision of the course asks for the same steps.
    try:
        steps = tuple(arm.steps(seed))
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{arm.name} gives no steps for seed {seed}: {reason}; correct the table") from error
    if not steps or not all(isinstance(each, Step) for each in steps):
        raise UserError(f"{arm.name} gives no steps for seed {seed}; return a list of steps in its function")
    return steps


@functools.cache
def _chain(arm: Arm, seed: int) -> tuple[Step, ...]:
    return tuple(chain(_last(arm, seed)))


def _one_of(words: Sequence[str]) -> str:
    return " or ".join(words)


def _content(word: str | Own | Inside | Step) -> Any:
    match word:
        case Own(suffix):
            return {"own": suffix}
        case Step():
            return {"step": word.address}
        case Inside(inner, name):
            return {"step": inner.address, "inside": name}
    return word
