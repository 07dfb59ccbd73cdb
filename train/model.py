"""The contract between the training loop and a model.

A model is a module of train/models, found by its name. It holds

    Config                        frozen dataclass of named groups. `model` has `resolution`, and `text_dim`
                                  if the model reads caption vectors. `training` has `batch`, `precision`
                                  and `seed`
    parts(config, context)        -> dict of nn.Module: the networks by name, with their first weights
    build(parts, config, context) -> Model: the training of these networks

and, if the loop must know something before the networks exist,

    needs(config)                 -> Needs
    survey(config, samples, base, encoder)
                                  -> Json: measurements of the set before the first step, such as sigma_data
                                  or a vocabulary. `base` is the survey of the run that a fine-tuning
                                  starts from, else empty. `encoder` is that of Context. Rank 0 calls it once.
                                  config.json and Context.survey hold the result. If the model needs latents,
                                  they also hold `autoencoder` (sizes, weights) and `latent_scale`, one over
                                  their deviation
    grown(module, tensors)        -> dict of Tensor: a base's weights for a part of another size, such as one
                                  with more words. Without it, sizes must agree
    grows(base, config)           -> bool: True if `grown` fits weights of the Config `base` though its group
                                  `model` is another. Without it, these groups must agree

and, if it draws pictures from texts,

    Options                       frozen dataclass of drawing options, such as steps or guidance
    start(config, numbers, seed)  -> Tensor: the noise of the pictures with these numbers. Row i depends on
                                  numbers[i] and the seed alone, and is equal on every device
    draw(parts, start, texts, options, context)
                                  -> Tensor (N, 3, R, R), about -1..1, differentiable in start, texts and
                                  parts. Context.load and Context.earlier open the models that options name

and, if its options name other checkpoints,

    opens(options)                -> tuple of their names: images seen of this run (int), or a RUN (str)

and, if it draws around known parts of a picture,

    complete(parts, start, texts, known, options, context)
                                  -> Tensor (N, 3, R, R) as of `draw`, with the Known parts in it

and, if it turns pictures back into the noise that draws them,

    invert(parts, pictures, texts, options, context)
                                  -> Tensor like that of `start`: the noise from which `draw` with these texts
                                  and options gives the pictures (N, 3, R, R) in -1..1

and, if it draws in steps that other code may enter, and by attention that other code may read and change,

    walk(parts, shape, texts, options, context, unguided=0)
                                  -> Walk: the steps of drawing from noise (N, *shape). The first `unguided`
                                  pictures are drawn without guidance
    attention(parts, control)     -> context manager. Inside its block, each attention of the network that
                                  draws gives its weights to the Control, and takes those that it returns.
                                  Rows beyond the N pictures are predictions without the texts

and, if it draws by denoising,

    denoiser(parts, texts, options, context)
                                  -> Callable: noised pictures (N, 3, R, R) and sigma -> denoised ones

and, if it reads the words of texts,

    tokeniser(config, survey)     -> Tokeniser
    reads(options)                -> the forms of a text that drawing reads: "vectors", "tokens" or both.
                                  Without it, vectors alone

and, if it encodes pictures and decodes them,

    reconstruct(parts, pictures)  -> Tensor (N, 3, R, R), about -1..1, from pictures of that shape in -1..1

and, if it learns features of pictures

    features(parts, pictures)     -> Tensor (N, W): features of pictures (N, 3, R, R) in -1..1

and, if configs that need caption tables learn a common space of pictures and texts beside these features,

    embed_pictures(parts, seen)   -> Tensor (N, D): unit embeddings of pictures with the features `seen`
    embed_texts(parts, tokens)    -> Tensor (N, D): unit embeddings of texts, int64 (N, T)

and, if its ONNX file is to hold a part of drawing alone,

    onnx_call(parts, config)      -> OnnxCall: this part, such as one call of a denoiser

An exported folder holds the code that these reach in one file (train/bundle.py). So they use this checkout,
torch, safetensors, numpy and the standard library alone, and import at the top of their modules.

train/loop.py trains any such module. train/sampling/draw.py draws from it. train/runs.py opens its runs.

Axes: N samples, V views of a sample, D dimensions of an embedding, R resolution.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synth import settings
from synth.errors import UserError

# Bounds of settings.
MOST_SIZE = 1 << 16  # of a layer, and most layers
MOST_RATE = 10**6  # of learning, and most weight of a term
MOST_IMAGES = 10**15
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}  # fp64 is for tests

Json = dict[str, Any]
Terms = dict[str, Tensor]  # scalar means over a micro-batch; the loop differentiates those that require grad
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # uint8 (R, R, 3) -> the same


class Training(Protocol):
    """The group `training` of every model's config."""

    @property
    def batch(self) -> int:
        """Samples of a step, over all ranks."""

    @property
    def precision(self) -> str:
        """One of PRECISIONS."""

    @property
    def seed(self) -> int:
        """The seed of the first weights, the order of samples and every random number of a step."""


class Sizes(Protocol):
    """The group `model` of every model's config."""

    @property
    def resolution(self) -> int:
        """The side, in pixels, of the pictures that the model reads."""


class Config(Protocol):
    """A model's config: a frozen dataclass of groups, which are frozen dataclasses of plain values."""

    @property
    def model(self) -> Sizes:
        """Sizes of the networks."""

    @property
    def training(self) -> Training:
        """Steps and optimisers."""


class PictureEncoder(Protocol):
    """The captions' image encoder, frozen. Gradients reach the pictures."""

    def features(self, pictures: Tensor) -> Tensor:
        """Returns unit embeddings (N, D) of pictures (N, 3, R, R) in 0..1."""


class SizedEncoder(PictureEncoder, Protocol):
    """An encoder that names the size of its input. Every encoder of caption/encoders.py does."""

    size: int  # pixels a side


class TowerEncoder(PictureEncoder, Protocol):
    """An encoder that gives its text transformer away. Every encoder of caption/encoders.py does."""

    def text_tower(self) -> tuple[Json, list[tuple[str, str]], dict[str, Tensor]]:
        """Returns sizes, merges and weights of a caption.text_towers.TextTower, or raises UserError."""


class CaptionedPicture(NamedTuple):
    """A picture of the set with its captions, for a survey."""

    pixels: np.ndarray  # uint8 (R, R, 3)
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """Facts about a model that the loop must know before the networks exist."""

    tables: bool = True  # caption tables; False: shards alone are enough
    vectors: bool = True  # of texts; False: their words alone
    words: bool = True  # of texts, if the model has a tokeniser; False: their vectors alone
    encoder: bool = False  # the captions' encoder, frozen, as Context.encoder
    latents: str = ""  # an autoencoder by RUN: batches have the latents of its tables, not pictures
    group: int = 1  # of Wanted
    positives: str = "class"  # of Wanted
    network: str = ""  # an encoder by name, frozen, as Context.encoder; it needs no captions
    # The reason for it, with the GROUP.KEY=VALUE that does without.
    encoder_reason: tuple[str, str] = ("the model", "")
    # Parts that no phase trains. Older checkpoints and exports keep them for drawing.
    frozen: tuple[str, ...] = ()
    # Parts that the base of a fine-tuning must have. (): all runs of the model have the same parts.
    parts: tuple[str, ...] = ()
    # Sizes of groups of consecutive samples that the model couples. A smaller batch is one group.
    groups: tuple[int, ...] = ()
    multiple: int = 1  # the size of every micro-batch is a multiple of it
    # The loss couples the global batch: there are no micro-batches, and Context.gather joins the ranks.
    whole: bool = False
    # Settings that act on the whole batch at once, so need one rank without micro-batches, each with the
    # setting that does without: GROUP.KEY=VALUE.
    coupling: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """The content of a batch. Everything random about a visit is a function of (seed, index, epoch)."""

    vectors: tuple[str, ...] = ("text",)  # independent draws of a caption vector by name; (): none
    one_caption: bool = False  # all draws take the same one of the captions of a picture
    views: int = 1  # versions of a picture
    augment: Augment | None = None  # makes a view, in the reader's process: it must pickle
    group: int = 1  # consecutive samples of one label, all batches through; batches have whole groups
    positives: str = "class"  # the label of groups: class or caption
    # The shape (K, S, S) of latents, which stand in for pictures. None: pictures.
    latents: tuple[int, int, int] | None = None
    # Returns the tokens of a caption, in the reader's process: it must pickle. None: no captions are read.
    tokenise: Callable[[str], list[int]] | None = None


@dataclass(frozen=True)
class Micro:
    """The part of a batch in one pass through the networks."""

    # (N, V, 3, R, R) in -1..1, or latents (N, 1, K, S, S) as stored; float32 or float64
    pictures: Tensor
    vectors: Mapping[str, Tensor]  # (N, D) each, unit length
    numbers: range  # global sample numbers: every random number is a function of (seed, use, number)
    images_seen: int  # before this step
    tokens: Tensor | None = None  # int64 (N, T) of captions, 0 behind the end; None: not wanted
    labels: Tensor | None = None  # int64 (N,) of samples in groups; None: they have none


@dataclass(frozen=True)
class Phase:
    """One optimiser step within a training step."""

    name: str
    parts: tuple[str, ...]  # the parts that it trains; all others are frozen meanwhile
    loss: Callable[[Micro], Iterator[Terms]]  # each yield is differentiated and freed before the next
    every: int = 1  # steps
    begins: int = 0  # images seen
    clip: float | None = None  # largest gradient norm over its parts
    zeros: bool = False  # a parameter without a gradient gets a gradient of zero
    # Receives the terms' means over the global batch, after the step.
    settle: Callable[[Terms], None] | None = None


@dataclass(frozen=True)
class Average:
    """A moving average of a part."""

    part: str
    # Images seen before and after the step -> the share of the old average that stays.
    keep: Callable[[int, int], float]


@dataclass
class Model:
    """The training of a model's parts."""

    optimisers: dict[str, Optimizer]  # by part
    phases: list[Phase]  # in the order of a step
    # By name. Drawing uses the first average of a part in its place.
    averages: dict[str, Average] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=Wanted)
    # Checkpoints keep these tensors besides the weights. The model changes them in place.
    state: dict[str, Tensor] = field(default_factory=dict)
    # (part, images seen) -> factor on the part's learning rates.
    rate: Callable[[str, int], float] | None = None


@dataclass(frozen=True)
class Texts:
    """Prompts, in the forms that models read. At least one form is there."""

    vectors: Tensor | None = None  # (N, D), unit length
    tokens: Tensor | None = None  # int64 (N, T), 0 behind the end
    captions: tuple[str, ...] | None = None  # N texts, for models that have other tokens

    def __len__(self) -> int:
        return len(self._form)

    def __getitem__(self, rows: slice | list[int]) -> "Texts":
        vectors, tokens = (None if form is None else form[rows] for form in (self.vectors, self.tokens))
        captions = self.captions
        if captions is not None:
            captions = captions[rows] if isinstance(rows, slice) else tuple(captions[i] for i in rows)
        return Texts(vectors, tokens, captions)

    def rolled(self, *forms: str) -> "Texts":
        """Returns these texts with some forms changed round: each row has the form of the row before it."""
        rows = {name: getattr(self, name) for name in forms}
        return replace(self, **{name: row.roll(1, 0) for name, row in rows.items() if row is not None})

    @property
    def device(self) -> torch.device:
        """The device of the texts."""
        return self._form.device

    @property
    def _form(self) -> Tensor:
        form = self.vectors if self.vectors is not None else self.tokens
        assert form is not None
        return form


@dataclass(frozen=True)
class Known:
    """Known parts of pictures: some pixels, or the means of square blocks."""

    picture: Tensor  # (3, S, S) in -1..1
    # bool (S, S), the known pixels. None: picture holds the means of S x S blocks.
    pixels: Tensor | None = None

    def restored(self, pictures: Tensor) -> Tensor:
        """Returns pictures (N, 3, R, R) with the known parts put back.

        R is S, or a multiple of S if the means of blocks are known."""
        if self.pixels is not None:
            return torch.where(self.pixels, self.picture, pictures)
        side = pictures.shape[-1] // self.picture.shape[-1]
        return pictures + _spread(self.picture - nn.functional.avg_pool2d(pictures, side), side)

    def within(self, pictures: Tensor) -> Tensor:
        """Returns pictures (N, 3, R, R) in -1..1, with the known parts put back."""
        # Cutting values off moves the means of blocks.
        for _ in range(4):
            pictures = self.restored(pictures.clamp(-1, 1))
        if self.pixels is not None:
            return pictures

        # A block with values beyond the ends still loses contrast until all fit.
        side = pictures.shape[-1] // self.picture.shape[-1]
        means = _spread(self.picture, side)
        used = torch.maximum((pictures - means) / (1 - means), (means - pictures) / (1 + means))
        most = nn.functional.max_pool2d(used.nan_to_num(0), side).clamp(min=1)
        return torch.lerp(means.expand_as(pictures), pictures, _spread(1 / most, side))


def _spread(values: Tensor, side: int) -> Tensor:
    """Returns values (..., S, S) as blocks: (..., S side, S side)."""
    return values.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)


class Tokeniser(Protocol):
    """The tokens of texts. It is sent to reader processes."""

    def __call__(self, text: str) -> list[int]:
        """Returns the tokens of a text, maybe with one that begins or ends it. 0 stands behind its end."""

    def divided(self, text: str) -> list[str]:
        """Returns the words of a text. Their tokens, one word after the other, are those of the text."""


class AttentionLayer(Protocol):
    """An attention of a network."""

    crosses: bool  # to the states of a text; False: to itself
    place: str  # its name in the network


# Receives the weights of an attention, (N, H, P, L), and the layer. Returns weights of the same shape.
# Axes: H heads, P pixels, L states. The words of a text are its last states.
Control = Callable[[Tensor, AttentionLayer], Tensor]


class Walk(Protocol):
    """The steps of drawing, numbered from noise to pictures, and their inverse."""

    @property
    def steps(self) -> int:
        """The number of steps."""

    def begun(self, start: Tensor) -> Tensor:
        """Returns the noised pictures (N, ...) before step 0 from the noise of `start`."""

    def down(self, y: Tensor, step: int) -> Tensor:
        """Returns noised pictures after a step, from those before it."""

    def up(self, y: Tensor, step: int) -> Tensor:
        """Returns noised pictures before a step, from those after it, without guidance."""

    def pictures(self, y: Tensor) -> Tensor:
        """Returns the pictures (N, 3, R, R) of those after the last step."""


class OnnxCall(NamedTuple):
    """The content of a model's ONNX file. Axis 0 of every input and output counts samples."""

    call: nn.Module
    inputs: dict[str, Tensor]  # examples of two samples, by name, in the order of the call's arguments
    output: str
    free: dict[str, str]  # the name of axis 1 by input, if its length is free too
    words: str  # for the card


@dataclass(frozen=True)
class Loaded:
    """An opened run: a model with weights, to draw from or to build upon."""

    name: str  # of the model's module
    config: Any
    survey: Json
    parts: dict[str, nn.Module]  # frozen; an average stands in for its part
    averages: dict[str, nn.Module]  # frozen, by the average's name


@dataclass(frozen=True)
class Context:
    """The surroundings of a model: device, precision, survey, and access to other models and ranks."""

    device: torch.device
    dtype: torch.dtype  # of features; parameters and statistics have at least float32
    survey: Json = field(default_factory=dict)
    encoder: PictureEncoder | None = None
    load: Callable[[str], Loaded] | None = None  # opens another RUN: the base of an inversion, an autoencoder
    earlier: Callable[[int], Loaded] | None = None  # opens this run's checkpoint at these images, for drawing
    # Returns the rows of all ranks in the order of sample numbers, with gradient.
    gather: Callable[[Tensor], Tensor] = lambda rows: rows

    @property
    def weights(self) -> torch.dtype:
        """The dtype of parameters and statistics."""
        return torch.promote_types(self.dtype, torch.float32)


def require_batches(training: Any) -> None:
    """Raises ValueError if the batch, the seed or the precision of a model's settings cannot be used."""
    settings.require_within(training, 1, 1 << 20, "batch")
    settings.require_within(training, 0, (1 << 64) - 1, "seed")
    if training.precision not in PRECISIONS:
        raise ValueError(f"precision is {training.precision}; it must be fp32 or bf16")


def find(name: str) -> ModuleType:
    """Returns the model's module. Raises UserError if the name is unknown, and lists all names."""
    exists = name.isidentifier() and importlib.util.find_spec(f"train.models.{name}")
    module = importlib.import_module(f"train.models.{name}") if exists else None
    if module is None or not hasattr(module, "build"):
        raise UserError(f"unknown model {name!r}; known are {', '.join(names())}")
    return module


def names() -> list[str]:
    """Returns the names of all models: the modules of train/models that have a `build`."""
    import train.models

    names = sorted(module.name for module in pkgutil.iter_modules(train.models.__path__))
    return [name for name in names if hasattr(importlib.import_module(f"train.models.{name}"), "build")]


def needs(name: str, config: Any) -> Needs:
    """Returns the needs of a model before it is built."""
    module = find(name)
    return module.needs(config) if hasattr(module, "needs") else Needs()


def learner(name: str, run: str) -> ModuleType:
    """Returns the model's module. Raises UserError if the model learns no features of pictures."""
    module = find(name)
    if not hasattr(module, "features"):
        learners = [each for each in names() if hasattr(find(each), "features")]
        problem = f"{run} is a run of {name}, which learns no features of pictures"
        raise UserError(f"{problem}; give a run of {' or '.join(learners)}")
    return module


def require_drawing(name: str, run: str) -> ModuleType:
    """Returns the model's module. Raises UserError if the model draws no pictures from texts."""
    module = find(name)
    if not hasattr(module, "draw"):
        raise UserError(f"{run} is a run of {name}, which draws no pictures; give a run of another model")
    return module
