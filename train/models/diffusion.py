"""A small text-to-image diffusion model that reads words (after Rombach et al., Latent Diffusion, CVPR 2022).

The denoiser is in denoiser.py, its network in unet.py, its texts in words.py, the formulations in
formulations.py, the samplers in samplers.py, drawing options and guidance in guidance.py, Muon in muon.py.
This module joins them: the loss, the averages, drawing.

    L = E || F - (x - c_skip y) / c_out ||^2,  y = x + sigma n        one phase, one part

A text is a vector, words, or both. Training drops each at random: both together in `drop_both` of the
samples, and else each by itself. So language-free pre-training and captioned fine-tuning are settings of one
run.

Axes: N samples, R resolution, K planes of a picture or latent, S their side, T tokens, V dimensions of a
vector, L text states, D their width.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from synth import settings
from synth.errors import UserError
from synth.settings import from_json
from train import ema
from train.model import (
    MOST_IMAGES,
    MOST_RATE,
    PRECISIONS,
    Average,
    CaptionedPicture,
    Context,
    Control,
    Json,
    Known,
    Loaded,
    Micro,
    Model,
    Needs,
    OnnxCall,
    Phase,
    PictureEncoder,
    Terms,
    Texts,
    TowerEncoder,
    Wanted,
    require_batches,
)
from train.models import growth, randomness, samplers
from train.models.autoencoder_networks import AutoencoderSizes, LatentDecoder
from train.models.byte_pairs import BytePairs, packed
from train.models.denoiser import Denoiser, Noise, Sizes
from train.models.formulations import column, levels
from train.models.guidance import Guide, Options, autocast, guided_denoiser, opens, reads, schedule, without
from train.models.muon import MuonAdamW
from train.models.tower import Tower, fill
from train.models.unet import Attention
from train.models.walk import OdeWalk
from train.models.words import (
    BEGIN,
    Vocabulary,
    padded,
    surveyed,
    with_new_words,
)

DENOISER, DECODER, TOWER = "denoiser", "decoder", "tower"

_NOISE, _DROP = range(2)  # uses of a step's random numbers
_SURVEYED = 20_000  # samples
# Not matrices of a map between features: Muon's law is not for them.
_ADAMW = ("text.word", "position", "text.vector", "unet.first", "unet.last")


@dataclass(frozen=True)
class Training:
    """Settings of steps, optimisers and averages."""

    batch: int = 32  # of all ranks together
    lr: float = 2e-3  # of AdamW
    muon_lr: float = 4e-3  # 0: AdamW for all parameters
    warm_up: int = 3_000  # images
    decay_from: int = 0  # images seen at which the rates begin to fall to 0 ...
    decay_to: int = 0  # ... and reach it; 0: never
    drop_words: float = 0.05  # share of the samples that do not drop both
    drop_vector: float = 0.5  # the same
    drop_both: float = 0.1  # share of all samples
    average: float = 0.1  # relative width of the first moving average, and of the second
    average_short: float = 0.05
    precision: str = "fp32"  # of features
    seed: int = 0

    def __post_init__(self) -> None:
        settings.require_within(self, 0, 1, "drop_words", "drop_vector", "drop_both")
        settings.require_within(self, 0.01, 0.25, "average", "average_short")
        settings.require_within(self, 0, MOST_RATE, "lr", "muon_lr")
        settings.require_within(self, 0, MOST_IMAGES, "warm_up", "decay_from", "decay_to")
        if self.decay_to and self.decay_to <= self.decay_from:
            raise ValueError(f"decay_to is {self.decay_to}; it must be above decay_from = {self.decay_from}")
        require_batches(self)


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: Sizes = field(default_factory=Sizes)
    noise: Noise = field(default_factory=Noise)
    training: Training = field(default_factory=Training)


def needs(config: Config) -> Needs:
    """Returns the needs of the denoiser: no vectors or no words of texts if it drops all of them."""
    tower = config.model.words == "tower"
    return Needs(
        vectors=config.training.drop_vector < 1,
        words=config.training.drop_words < 1,
        encoder=tower,
        encoder_reason=("model.words=tower", "model.words=own"),
        latents=config.model.latents,
        frozen=((TOWER,) if tower else ()) + ((DECODER,) if config.model.latents else ()),
    )


def survey(
    config: Config, samples: Iterable[CaptionedPicture], base: Json, encoder: PictureEncoder | None = None
) -> Json:
    """Returns the vocabulary of the captions, and the deviation of the pictures in -1..1.

    After a base, its words keep their numbers, and new ones follow. The deviation stays the base's. Scaled
    latents have the deviation 1. A tower has the encoder's byte pairs instead of words. Raises UserError if
    the encoder has no such tower."""
    # Tower.
    tower: Json = {}
    if config.model.words == "tower":
        if encoder is None:
            problem = "model.words=tower reads the encoder of caption tables, and --live has none"
            raise UserError(f"{problem}; give a captioned set by --on, or --set model.words=own")
        sizes, merges, _ = cast(TowerEncoder, encoder).text_tower()
        tower = {"tower": {"sizes": sizes, "merges": packed(merges)}}

    # Pictures and words.
    texts: list[str] = []
    total = square = count = 0.0
    for sample in itertools.islice(samples, _SURVEYED):
        values = sample.pixels.astype("float64") / 127.5 - 1
        total, square, count = total + values.sum(), square + (values**2).sum(), count + values.size
        texts += sample.captions
    deviation = 1.0 if config.model.latents else math.sqrt(max(0.0, square / count - (total / count) ** 2))
    words = [] if tower else surveyed(texts, base.get("words", ()))
    sigma_data = base.get("sigma_data", round(deviation, 4))
    return {"words": words, "sigma_data": sigma_data, **tower}


def grown(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a base's weights of a part, with first vectors for the words that it does not know.

    The denoiser may have one outer level more than the base, or one fewer."""
    if not isinstance(module, Denoiser):
        return tensors
    first, name = module.state_dict(), "text.word.weight"
    tensors = growth.refitted(tensors, first)
    return with_new_words(tensors, name, first[name]) if name in tensors else tensors


def grows(base: Config, config: Config) -> bool:
    """Returns True if the denoisers differ by one outer level alone, see growth.py."""
    return growth.fits(base.model, config.model)


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns the denoiser, and the tower of its texts and the decoder of its latents, if it has these.

    The tower has the encoder's weights if a run begins."""
    # Denoiser.
    words, sigma_data = len(tokeniser(config, context.survey)), context.survey["sigma_data"]
    sizes = context.survey["tower"]["sizes"] if config.model.words == "tower" else None
    denoiser = Denoiser(config.model, config.noise, words, sigma_data, sizes and sizes["width"])
    networks: dict[str, nn.Module] = {DENOISER: denoiser}

    # Tower.
    if sizes:
        networks[TOWER] = tower = Tower(words, **sizes)
        if context.encoder is not None:
            fill(tower, cast(TowerEncoder, context.encoder).text_tower()[2])

    # Decoder.
    if config.model.latents:
        decoder = LatentDecoder(from_json(AutoencoderSizes, context.survey["autoencoder"]["sizes"]))
        if context.load:
            decoder.load_state_dict(context.load(config.model.latents).parts[DECODER].state_dict())
        networks[DECODER] = decoder.requires_grad_(False)
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def tokeniser(config: Config, survey: Json) -> Vocabulary | BytePairs:
    """Returns the vocabulary of a run, or the byte pairs of its tower."""
    if config.model.words == "tower":
        most = min(config.model.tokens, survey["tower"]["sizes"]["length"])
        return BytePairs(survey["tower"]["merges"], most)
    learned = tuple((word, *sizes) for word, sizes in survey.get("learned", {}).items())
    return Vocabulary(tuple(survey["words"]), config.model.tokens, learned)


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of the denoiser."""
    training, denoiser = config.training, cast(Denoiser, parts[DENOISER])

    # Muon for matrices and kernels between features.
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in denoiser.named_parameters():
        inner = parameter.ndim >= 2 and not any(part in name for part in _ADAMW)
        (matrices if training.muon_lr and inner else others).append(parameter)
    dtype = PRECISIONS[training.precision]
    optimiser = MuonAdamW(matrices, others, muon_lr=training.muon_lr, lr=training.lr, dtype=dtype)

    averages = {
        "ema": Average(DENOISER, ema.of_width(training.average)),
        "ema_short": Average(DENOISER, ema.of_width(training.average_short)),
    }
    sizes = config.model
    latents = (sizes.planes, sizes.side, sizes.side) if sizes.latents else None
    vectors = ("text",) if training.drop_vector < 1 else ()
    loss = _Loss(denoiser, cast(Tower | None, parts.get(TOWER)), config, context)
    return Model(
        {DENOISER: optimiser},
        [Phase("denoise", (DENOISER,), loss)],
        averages,
        Wanted(vectors, latents=latents, tokenise=tokeniser(config, context.survey)),
        rate=lambda part, images_seen: _rate(training, images_seen),
    )


def _rate(training: Training, images_seen: int) -> float:
    """Returns the factor on all learning rates: a linear rise, then a linear fall to 0."""
    rise = min(1.0, (images_seen + training.batch) / training.warm_up) if training.warm_up else 1.0
    if not training.decay_to or images_seen <= training.decay_from:
        return rise
    left = (training.decay_to - images_seen) / (training.decay_to - training.decay_from)
    return rise * max(0.0, left)


class _Loss:
    """The loss of the one phase."""

    def __init__(self, denoiser: Denoiser, tower: Tower | None, config: Config, context: Context) -> None:
        self._denoiser, self._tower, self._config, self._context = denoiser, tower, config, context

    def __call__(self, micro: Micro) -> Iterator[Terms]:
        """Yields the squared error of the network's output."""
        training, device = self._config.training, str(self._context.device)
        x = micro.pictures[:, 0] * latent_scale(self._context.survey)
        y, sigma = noised(self._denoiser, x, training.seed, _NOISE, micro.numbers)

        # Texts, some of them dropped.
        vectors, tokens = micro.vectors.get("text"), micro.tokens
        assert tokens is not None
        _, chances = randomness.draw(training.seed, _DROP, micro.numbers, 0, uniforms=3, device=device)
        both = chances[:, 0] < training.drop_both
        given = ~both & (chances[:, 1] >= training.drop_vector)
        tokens = without(tokens, both | (chances[:, 2] < training.drop_words))

        # The error of F.
        with autocast(self._context):
            states, present = self._denoiser.states(tokens, vectors, given, self._tower)
            output = self._denoiser(y, sigma, states, present)
        yield {"error": self._denoiser.errors(output, x, y, sigma).mean()}


def noised(
    denoiser: Denoiser, x: Tensor, seed: int, use: int, numbers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Returns noised pictures (N, K, S, S) of x and their levels sigma (N,), by the law of training.

    Random numbers are those of (seed, use, number)."""
    noise = denoiser.noise
    normal, uniform = randomness.draw(seed, use, numbers, 1 + x[0].numel(), uniforms=1, device=str(x.device))
    normal, uniform = normal.to(x.dtype), uniform.to(x.dtype)
    sigma = levels(noise.formulation, normal[:, 0], uniform[:, 0], noise.mean, noise.deviation)
    return x + column(sigma) * normal[:, 1:].view(x.shape), sigma


def latent_scale(survey: Json) -> float:
    """Returns the factor that gives latents the deviation 1; 1 for pictures."""
    return float(survey.get("latent_scale", 1.0))


def start(config: Config, numbers: Sequence[int], seed: int) -> Tensor:
    """Returns the noise of pictures, float32 (N, 3, R, R), or of latents, (N, K, S, S)."""
    side, planes = config.model.side, config.model.planes
    return randomness.of_pictures(seed, numbers, planes * side * side).view(-1, planes, side, side)


def draw(
    parts: dict[str, nn.Module], start: Tensor, texts: Texts, options: Options, context: Context
) -> Tensor:
    """Returns pictures (N, 3, R, R) of texts and of noise `start`, of their shape or that of latents."""
    denoise, levels = _ode(parts, start.shape[1:], texts, options, context)
    drawn = samplers.along(denoise, start * levels[0], levels, heun=options.sampler == "heun")
    return decoded(parts, drawn, context)


def complete(
    parts: dict[str, nn.Module],
    start: Tensor,
    texts: Texts,
    known: Known,
    options: Options,
    context: Context,
) -> Tensor:
    """Returns pictures as `draw` does, with known parts in them.

    Every denoised picture gets the known parts back. So at each step they have the noise of its level. Raises
    UserError if the model draws latents."""
    _require_pixels(parts)
    denoise, levels = _ode(parts, start.shape[1:], texts, options, context)
    y = start * levels[0] + known.restored(torch.zeros_like(start))
    heun = options.sampler == "heun"
    drawn = samplers.along(lambda y, sigma: known.restored(denoise(y, sigma)), y, levels, heun=heun)
    return known.within(drawn)


def invert(
    parts: dict[str, nn.Module], pictures: Tensor, texts: Texts, options: Options, context: Context
) -> Tensor:
    """Returns the noise from which `draw` without guidance gives these pictures (N, 3, R, R).

    The ODE runs from low noise levels to high ones. Guidance is left out, because it magnifies the error.
    Raises UserError if the model draws latents, or if there is one step alone."""
    _require_pixels(parts)
    if options.steps < 2:
        problem = f"steps is {options.steps}, which leaves no way from a picture to its noise"
        raise UserError(f"{problem}; give --steps 2 or more")
    denoise, levels = _ode(parts, pictures.shape[1:], texts, _unguided(options), context)
    ascending = levels[-2::-1]
    return samplers.along(denoise, pictures, ascending, heun=options.sampler == "heun") / levels[0]


def walk(
    parts: dict[str, nn.Module],
    shape: torch.Size,
    texts: Texts,
    options: Options,
    context: Context,
    *,
    unguided: int = 0,
) -> OdeWalk:
    """Returns the steps of drawing texts from noise (N, *shape).

    The first `unguided` pictures are drawn without guidance."""
    guided, levels = _ode(parts, shape, texts, options, context, unguided)
    plain, _ = _ode(parts, shape, texts, _unguided(options), context)

    def decode(y: Tensor) -> Tensor:
        return decoded(parts, y, context)

    return OdeWalk(tuple(levels), guided, plain, options.sampler == "heun", decode)


@contextmanager
def attention(parts: dict[str, nn.Module], control: Control) -> Iterator[None]:
    """Lets `control` read and change the weights of the denoiser's attention inside the block.

    Guided drawing predicts with the texts in the first half of a batch, and without them in the second."""
    layers = [m for m in cast(Denoiser, parts[DENOISER]).unet.modules() if isinstance(m, Attention)]
    for layer in layers:
        layer.control = control
    try:
        yield
    finally:
        for layer in layers:
            layer.control = None


def _unguided(options: Options) -> Options:
    """Returns options without guidance."""
    return replace(options, guidance=1.0, weak=None, base=None)


def _require_pixels(parts: dict[str, nn.Module]) -> None:
    """Raises UserError if the model draws latents."""
    if DECODER in parts:
        problem = "this run draws latents, which have no known pixels"
        raise UserError(f"{problem}; give a run without model.latents")


def _ode(
    parts: dict[str, nn.Module],
    shape: torch.Size,
    texts: Texts,
    options: Options,
    context: Context,
    unguided: int = 0,
) -> tuple[samplers.Denoise, list[float]]:
    """Returns the denoiser of pictures of a shape, guided from picture `unguided` on, and the levels of
    drawing."""
    denoiser, tower = cast(Denoiser, parts[DENOISER]), cast(Tower | None, parts.get(TOWER))
    guide = _guide(shape, texts, options, context)
    denoise = guided_denoiser(denoiser, texts, options, context, guide, tower, unguided)
    return denoise, schedule(denoiser.noise, options)


def decoded(parts: dict[str, nn.Module], drawn: Tensor, context: Context) -> Tensor:
    """Returns the pictures (N, 3, R, R) of drawn latents (N, K, S, S). Pictures stay as they are."""
    if DECODER not in parts:
        return drawn
    with autocast(context):
        return cast(Tensor, parts[DECODER](drawn / latent_scale(context.survey)))


def _guide(shape: torch.Size, texts: Texts, options: Options, context: Context) -> Guide | None:
    """Returns the checkpoint that guides pictures of a shape, or None if the options name none.

    Raises UserError if it is missing, if it draws other pictures, or if it has not learned such texts."""
    if not opens(options):
        return None
    if context.load is None or context.earlier is None:
        raise UserError("weak and base open other checkpoints; draw by `python -m train sample RUN`")
    if options.weak is not None:
        other = context.earlier(options.weak)
    else:
        other = context.load(str(options.base))
        _require_guide(other, shape, texts, options, context)
    return Guide(
        cast(Denoiser, other.parts[DENOISER]),
        _in_words_of(other, texts, context),
        cast(Tower | None, other.parts.get(TOWER)),
        latent_scale(other.survey) / latent_scale(context.survey),
    )


def _require_guide(base: Loaded, shape: torch.Size, texts: Texts, options: Options, context: Context) -> None:
    """Raises UserError if a base cannot guide pictures or latents of a shape by these texts."""
    # Pictures.
    place = f"--base is {options.base}"
    if not isinstance(base.parts.get(DENOISER), Denoiser):
        raise UserError(f"{place}, a run of {base.name}; give a run of diffusion")
    sizes = base.config.model
    values = (sizes.planes, sizes.side, sizes.side)
    if values != tuple(shape):
        theirs, ours = (" x ".join(map(str, each)) for each in (values, shape))
        problem = f"{place}, which draws {theirs} values, and this run draws {ours}"
        raise UserError(f"{problem}; give a run of this run's resolution, on pixels or latents as it is")
    coders = (survey.get("autoencoder", {}).get("weights") for survey in (base.survey, context.survey))
    if len(set(coders)) > 1:
        problem = f"{place}, a run on latents of another autoencoder"
        raise UserError(f"{problem}; give a run on latents of this run's")

    # Texts.
    learned, forms = needs(base.config), reads(options)
    if "tokens" in forms and not learned.words:
        raise UserError(f"{place}, which has learned no words; draw with --text vector, or give another run")
    if "vectors" in forms and not learned.vectors:
        raise UserError(f"{place}, which has learned no vectors; draw with --text words, or give another run")
    vectors = texts.vectors if "vectors" in forms else None
    if vectors is not None and vectors.shape[1] != sizes.text_dim:
        problem = f"{place}, which reads vectors of {sizes.text_dim} dimensions"
        raise UserError(f"{problem} instead of {vectors.shape[1]}; give a run with this run's encoder")


def _in_words_of(guide: Loaded, texts: Texts, context: Context) -> Texts:
    """Returns texts in the tokens of a guide, which may know other words or read fewer tokens."""
    known = all(guide.survey.get(name) == context.survey.get(name) for name in ("words", "tower", "learned"))
    if known and (texts.tokens is None or texts.tokens.shape[1] <= guide.config.model.tokens):
        return texts
    assert texts.captions is not None
    tokens = padded(map(tokeniser(guide.config, guide.survey), texts.captions))
    return Texts(texts.vectors, tokens.to(texts.device), texts.captions)


def denoiser(
    parts: dict[str, nn.Module], texts: Texts, options: Options, context: Context
) -> samplers.Denoise:
    """Returns the denoiser of texts, without guidance."""
    tower = cast(Tower | None, parts.get(TOWER))
    return guided_denoiser(cast(Denoiser, parts[DENOISER]), texts, _unguided(options), context, tower=tower)


class _Call(nn.Module):
    """One call of the denoiser, with its texts."""

    def __init__(self, denoiser: Denoiser, tower: Tower | None) -> None:
        super().__init__()
        self.denoiser, self.tower = denoiser, tower

    def forward(
        self, noised: Tensor, sigma: Tensor, tokens: Tensor, vectors: Tensor, given: Tensor
    ) -> Tensor:
        """Returns the denoised pictures or latents (N, K, S, S)."""
        states, present = self.denoiser.states(tokens, vectors, given, self.tower)
        return self.denoiser.denoised(noised, sigma, states, present)


def onnx_call(parts: dict[str, nn.Module], config: Config) -> OnnxCall:
    """Returns one call of the denoiser. Samplers stand outside of the file."""
    sizes = config.model
    inputs = {
        "noised": torch.zeros(2, sizes.planes, sizes.side, sizes.side),
        "sigma": torch.ones(2),
        "tokens": torch.full((2, 5), BEGIN),
        "vectors": torch.zeros(2, sizes.text_dim),
        "given": torch.tensor([True, False]),
    }
    words = (
        f"one call of the denoiser: `noised` (N, {sizes.planes}, S, S), `sigma` (N,), `tokens` (N, T),"
        f" `vectors` (N, {sizes.text_dim}), and `given` (N,), true where the vector counts"
    )
    call = _Call(cast(Denoiser, parts[DENOISER]), cast(Tower | None, parts.get(TOWER)))
    return OnnxCall(call, inputs, "denoised", {"tokens": "length"}, words)
