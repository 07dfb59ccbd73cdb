import importlib.util
import itertools
import json
import shutil
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from synth.errors import UserError
from synth.images import codecs
from train import ema, handover, onnx_file, runs
from train.config import RunConfig, RunSettings, to_json
from train.distributed import Ranks
from train.loop import Trainer
from train.model import AttentionLayer, CaptionedPicture, Context, Known, Micro, Texts
from train.models import diffusion, formulations, muon, samplers
from train.models.denoiser import Denoiser, Noise, Sizes
from train.models.diffusion import Config, Options, Training
from train.models.formulations import coefficients, column
from train.models.guidance import Guide, guided_denoiser
from train.models.unet import Attention
from train.models.words import BEGIN, PAD, UNKNOWN, Vocabulary
from train.runs import Run
from train.sampling import draw
from train.sampling.given import Given
from train.stream.batches import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(
    resolution=16, channels=(32, 48), reads=(8, 16), itself=(8,), text_width=32, text_dim=8, tokens=12
)
COLOURS = {"red": (0.8, -0.8, -0.8), "green": (-0.8, 0.8, -0.8), "blue": (-0.8, -0.8, 0.8)}
SURVEY = {"words": ["a", *COLOURS, "square"], "sigma_data": 0.8}
CONTEXT = Context(torch.device("cpu"), torch.float32, SURVEY)


def config(**training: object) -> Config:
    return Config(SIZES, Noise(), Training(batch=12, warm_up=0, **training))  # type: ignore[arg-type]


def pictures(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns plain squares (N, 1, 3, R, R), their tokens (N, T) and vectors (N, V)."""
    vocabulary = diffusion.tokeniser(config(), SURVEY)
    names = [list(COLOURS)[i % 3] for i in range(count)]
    planes = torch.tensor([COLOURS[name] for name in names])[:, None, :, None, None].expand(
        -1, -1, -1, 16, 16
    )
    tokens = torch.tensor([vocabulary(f"a {name} square") for name in names])
    return planes.contiguous(), tokens, torch.nn.functional.one_hot(torch.arange(count) % 3, 8).float()


def micro(first: int = 0, count: int = 12) -> Micro:
    planes, tokens, vectors = pictures(count)
    return Micro(planes, {"text": vectors}, range(first, first + count), first, tokens)


def trainer(run_config: Config | None = None) -> Trainer:
    groups = run_config or config()
    return Trainer(RunConfig("diffusion", groups, run=RunSettings()), CONTEXT, Ranks.join("cpu"))


def batch() -> Batch:
    planes, tokens, vectors = pictures(12)
    levels = ((planes + 1) * 127.5).round().to(torch.uint8)
    return Batch(levels, {"text": vectors}, tokens)


@pytest.fixture(scope="module")
def trained() -> Trainer:
    with torch.random.fork_rng(devices=[]):
        model = trainer()
        for _ in range(30):
            model.step(batch())
    return model


# Formulations.


def test_noised_inputs_and_targets_have_unit_variance_where_they_must() -> None:
    generator = torch.Generator().manual_seed(0)
    for deviation, sigma in itertools.product((0.5, 1.0), (0.05, 1.0, 20.0)):
        x, n = torch.randn(2, 200_000, generator=generator)
        x = deviation * x
        y = x + sigma * n
        for formulation in ("edm", "ddpm") if deviation == 1 else ("edm",):
            c = coefficients(formulation, torch.tensor([sigma]), deviation)
            assert float((c.c_in * y).var()) == pytest.approx(1, abs=0.02)
            assert float(((x - c.c_skip * y) / c.c_out).var()) == pytest.approx(1, abs=0.02)


def test_targets_are_those_of_the_papers() -> None:
    x, n, sigma = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), torch.tensor([0.1, 0.7, 3.0, 30.0])
    y = x + column(sigma) * n
    for formulation, target in (("flow", n - x), ("ddpm", n)):
        c = coefficients(formulation, sigma, 0.5)
        assert torch.allclose((x - column(c.c_skip) * y) / column(c.c_out), target, atol=2e-5)
    t = sigma / (1 + sigma)
    c = coefficients("flow", sigma, 0.5)
    assert torch.allclose(column(c.c_in) * y, column(1 - t) * x + column(t) * n, atol=1e-6)


def test_levels_of_ddpm_are_those_of_latent_diffusion() -> None:
    levels = formulations.ddpm_levels()
    kept = 1 / (1 + levels**2)
    assert len(levels) == 1000 and float(kept[0]) == pytest.approx(1 - 0.00085)
    assert float(kept[-1]) == pytest.approx(0.00466, abs=1e-4)


def test_the_loss_at_the_start_is_that_of_the_zero_predictor() -> None:
    groups = replace(config(), noise=Noise("edm"))
    model = diffusion.parts(groups, replace(CONTEXT, survey={**SURVEY, "sigma_data": 0.8}))
    phase = diffusion.build(model, groups, CONTEXT).phases[0]
    losses = [float(next(phase.loss(micro(12 * k)))["error"].detach()) for k in range(8)]
    assert float(np.mean(losses)) == pytest.approx(1, abs=0.1)


# Samplers.


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_point_mass_is_recovered_exactly(sampler: str) -> None:
    point, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    levels = diffusion.schedule(Noise(), Options(steps=7, sampler=sampler))
    drawn = samplers.along(lambda y, sigma: point, levels[0] * noise, levels, heun=sampler == "heun")
    assert torch.allclose(drawn, point, atol=1e-5)


def gaussian(y: Tensor, sigma: float) -> Tensor:
    """The exact denoiser of pictures with deviation .5."""
    return y * 0.25 / (0.25 + sigma**2)


def test_a_gaussian_is_drawn_with_its_deviation() -> None:
    noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for sampler, near in (("heun", 0.01), ("euler", 0.1)):
        levels = diffusion.schedule(Noise(), Options(steps=40, sampler=sampler))
        drawn = samplers.along(gaussian, levels[0] * noise, levels, heun=sampler == "heun")
        assert torch.allclose(drawn, 0.5 * noise, rtol=near, atol=1e-4)


def test_every_formulation_is_drawn_at_levels_that_it_was_trained_on() -> None:
    trained = formulations.ddpm_levels()
    for sampler in samplers.SAMPLERS:
        levels = diffusion.schedule(Noise("ddpm"), Options(steps=9, sampler=sampler))
        assert float(trained[0]) - 1e-6 <= levels[-2] and levels[0] <= float(trained[-1]) + 1e-6
    assert diffusion.schedule(Noise(), Options(steps=9))[0] == pytest.approx(Noise().most)


def test_inversion_then_drawing_returns() -> None:
    x = 0.5 * torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    levels = diffusion.schedule(Noise(), Options(steps=60))[:-1]
    inverted = samplers.along(gaussian, x, levels[::-1], heun=True)
    assert torch.allclose(samplers.along(gaussian, inverted, levels, heun=True), x, atol=2e-3)


def test_euler_is_ddim() -> None:
    # DDIM in the coordinates of ddpm: sqrt(a) x + sqrt(1 - a) n (Song et al., 2021, equation 12).
    y, levels = torch.randn(2, 3, 4, 4), samplers.ddim_levels(4)
    for now, then in itertools.pairwise(levels[:-1]):
        a, b = 1 / (1 + now**2), 1 / (1 + then**2)
        x = gaussian(y, now)
        n = (y - x) / now
        ddim = (b**0.5 * x + (1 - b) ** 0.5 * n) / b**0.5
        step = samplers.along(gaussian, y, [now, then], heun=False)
        assert torch.allclose(step, ddim, atol=1e-4) and a < b
        y = step


# Guidance.


def drawn(model: Trainer, texts: Texts, **options: object) -> Tensor:
    start = diffusion.start(model.config.groups, range(len(texts)), 0)
    settings = Options(steps=4, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        return diffusion.draw(model.loaded().parts, start, texts, settings, CONTEXT)


@pytest.mark.slow
def test_guidance_of_1_is_the_text_and_of_0_is_none(trained: Trainer) -> None:
    _, tokens, _ = pictures(6)
    texts, none = Texts(tokens=tokens), Texts(tokens=torch.full((6, 1), BEGIN))
    assert torch.allclose(drawn(trained, texts, guidance=0.0), drawn(trained, none, guidance=1.0), atol=1e-5)
    assert torch.allclose(drawn(trained, none, guidance=5.0), drawn(trained, none, guidance=1.0), atol=1e-4)
    plain = drawn(trained, texts, guidance=1.0)
    assert not torch.allclose(plain, drawn(trained, texts, guidance=3.0), atol=1e-2)

    # Outside of its interval, guidance does nothing.
    far = {"guidance": 3.0, "least_guided": 1e8}
    assert torch.equal(drawn(trained, texts, **far), plain)
    assert torch.equal(drawn(trained, texts), drawn(trained, texts))


@pytest.fixture(scope="module")
def run(trained: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a checkpoint at 12 images, and the trained one at 360."""
    place = tmp_path_factory.mktemp("guided") / "run"
    with torch.random.fork_rng(devices=[]):
        first = trainer()
        first.step(batch())
    metadata = {"model": "diffusion", "config": to_json(first.config), "survey": SURVEY}
    place.mkdir()
    (place / "config.json").write_text(json.dumps({**metadata, "shards": {}, "captions": {}, "encoder": {}}))
    for model in (first, trained):
        model.save(place)
    return runs.find(place)


def sampled(run: Run, *, at: int | None = None, **options: str) -> Tensor:
    texts, settings = ["a red square", "a blue square"], {"steps": "3", **options}
    pixels = draw.sample(run, texts, n=1, seed=0, images_seen=at, options=settings)
    return torch.from_numpy(pixels).int()


@pytest.mark.slow
def test_guidance_of_0_is_the_guide_and_of_1_is_none(run: Run) -> None:
    first, last = sampled(run, at=12, guidance="1"), sampled(run, guidance="1")
    assert (first - last).abs().max() > 20
    assert torch.equal(sampled(run, guidance="1", weak="12"), last)
    assert (sampled(run, guidance="0", weak="12") - first).abs().max() <= 1
    assert (sampled(run, guidance="3", base=str(run.path)) - last).abs().max() <= 1
    assert (sampled(run, guidance="3", weak="12") - last).abs().max() > 5


@pytest.mark.slow
def test_a_base_with_another_vocabulary_tokenises_for_itself(run: Run, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(run.path, base)
    metadata = json.loads((base / "config.json").read_text())
    metadata["survey"]["words"] = metadata["survey"]["words"][::-1]
    (base / "config.json").write_text(json.dumps(metadata))
    texts = draw.texts_of(runs.find(base).load(), ["a red square"], None, "cpu").tokens
    assert texts is not None and not torch.equal(texts, pictures(1)[1])

    # As its weights are the run's, its words are other colours.
    other = sampled(runs.find(base), guidance="1")
    assert (sampled(run, guidance="0", base=str(base)) - other).abs().max() <= 1


@pytest.mark.slow
def test_guides_that_do_not_fit_are_refused(run: Run, tmp_path: Path) -> None:
    large = trainer(replace(config(), model=replace(SIZES, resolution=32, reads=(16,), itself=())))
    metadata = {"model": "diffusion", "config": to_json(large.config), "survey": SURVEY}
    (tmp_path / "config.json").write_text(
        json.dumps({**metadata, "shards": {}, "captions": {}, "encoder": {}})
    )
    large.save(tmp_path)
    refused: list[tuple[dict[str, str], str]] = [
        ({"weak": "13"}, "has no checkpoint at 13 images; it has 12, 360"),
        ({"weak": "12", "base": "x"}, "weak and base are two guides; it must be one of them"),
        ({"base": str(tmp_path / "none")}, "is no run"),
        ({"base": str(tmp_path)}, "which draws 3 x 32 x 32 values, and this run draws 3 x 16 x 16; give a"),
    ]
    for options, sentence in refused:
        with pytest.raises(UserError, match=sentence):
            draw.sample(run, ["a red square"], n=1, seed=0, options=options)


def test_a_base_that_read_other_latents_or_texts_is_refused() -> None:
    model = trainer().loaded()
    coded = {**SURVEY, "autoencoder": {"weights": "0"}}
    latents = replace(SIZES, latents="runs/kl", planes=4)
    refused: list[tuple[str, dict[str, object], str]] = [
        ("words", {"survey": coded}, "a run on latents of another autoencoder; give a run on"),
        ("words", {"config": replace(config(), model=latents)}, "which draws 4 x 16 x 16 values"),
        ("words", {"config": config(drop_words=1.0)}, "has learned no words; draw with --text vector"),
        ("vector", {"config": config(drop_vector=1.0)}, "has learned no vectors; draw with --text words"),
    ]
    _, tokens, vectors = pictures(2)
    for text, changes, sentence in refused:
        base = replace(model, **changes)  # type: ignore[arg-type]
        context = replace(CONTEXT, load={"base": base}.__getitem__, earlier=lambda _: model)
        with pytest.raises(UserError, match=sentence):
            diffusion.draw(
                model.parts,
                diffusion.start(model.config, range(2), 0),
                Texts(vectors, tokens),
                Options(steps=1, text=text, base="base"),
                context,
            )


def test_a_base_that_reads_fewer_tokens_cuts_texts_for_itself() -> None:
    model, short = trainer().loaded(), trainer(replace(config(), model=replace(SIZES, tokens=3))).loaded()
    context = replace(CONTEXT, load={"base": short}.__getitem__, earlier=lambda _: model)
    noise, tokens = diffusion.start(model.config, range(2), 0), pictures(2)[1]
    texts = Texts(tokens=tokens, captions=("a red square", "a green square"))
    based = diffusion.draw(model.parts, noise, texts, Options(steps=1, guidance=0.0, base="base"), context)
    alone = Options(steps=1, guidance=1.0)
    assert torch.equal(based, diffusion.draw(short.parts, noise, Texts(tokens=tokens[:, :3]), alone, CONTEXT))


class Exact(torch.nn.Module):
    """The exact denoiser of pictures of one deviation."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.square = deviation**2

    def states(self, tokens: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        return tokens[:, :, None], tokens != PAD

    def denoised(self, y: Tensor, sigma: Tensor, *states: Tensor) -> Tensor:
        return y * self.square / (self.square + column(sigma) ** 2)


def test_a_guide_reads_latents_by_its_own_factor() -> None:
    """A base that had the same latents twice as large predicts the same."""
    ours, theirs = (cast(Denoiser, Exact(deviation)) for deviation in (0.5, 1.0))
    texts, y, sigma = Texts(tokens=pictures(2)[1]), torch.randn(2, 3, 4, 4), 0.7
    plain = ours.denoised(y, torch.full((2,), sigma), y, y)
    for guidance, scale, equal in ((0.0, 2.0, True), (3.0, 2.0, True), (3.0, 1.0, False)):
        guide = Guide(theirs, texts, scale=scale)
        guided = guided_denoiser(ours, texts, Options(guidance=guidance), CONTEXT, guide)(y, sigma)
        assert torch.allclose(guided, plain, atol=1e-5) == equal


@pytest.mark.slow
def test_the_identity_of_a_drawing_names_what_it_opens(run: Run, tmp_path: Path) -> None:
    other = shutil.copytree(run.path, tmp_path / "other")
    model, texts = run.load(), Texts(tokens=pictures(2)[1])

    def identity(**options: str) -> dict[str, object]:
        return draw.drawing(model, texts, seed=0, options=options, run=run).identity

    assert identity() == identity(guidance="2.5") and "opened" not in identity()
    based = identity(base=str(other))
    assert based["opened"] == identity(base=str(run.path))["opened"] != identity(weak="12")["opened"]
    shutil.rmtree(other / "checkpoints/000000360")
    assert identity(base=str(other))["opened"] == identity(weak="12")["opened"]


# Given pictures.


def png(place: Path, pixels: np.ndarray) -> str:
    place.write_bytes(codecs.encode_png(pixels.astype(np.uint8)))
    return str(place)


def noisy(side: int) -> np.ndarray:
    """Returns a picture of random pixels, so that no two parts are alike."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_known_parts_of_a_masked_picture_come_back_unchanged(run: Run, tmp_path: Path, sampler: str) -> None:
    picture, mask = noisy(16), np.zeros((16, 16, 1))
    mask[2:9, 5:16] = 255
    given = Given(png(tmp_path / "picture.png", picture), png(tmp_path / "mask.png", mask))
    options = {"steps": "4", "sampler": sampler}
    filled = draw.sample(run, ["a red square"], n=2, seed=0, options=options, given=given).astype(int)
    kept = mask[..., 0] == 0
    assert (filled[:, kept] == picture[kept]).all()
    assert (filled[:, ~kept] != picture[~kept]).mean() > 0.9 and (filled[0] != filled[1]).any()


@pytest.mark.slow
def test_known_parts_have_the_noise_of_every_level(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, options = run.load(), Options(steps=5, guidance=1.0)
    denoiser, seen = cast(Denoiser, loaded.parts[diffusion.DENOISER]), []
    start, pixels = diffusion.start(loaded.config, range(2), 0), torch.arange(16) % 3 == 0
    picture = torch.rand(3, 16, 16) * 2 - 1
    plain = denoiser.denoised

    def denoised(y: Tensor, sigma: Tensor, context: Tensor, present: Tensor) -> Tensor:
        seen.append((y - picture - column(sigma) * start)[..., pixels].abs().max() / sigma[0])
        return plain(y, sigma, context, present)

    monkeypatch.setattr(denoiser, "denoised", denoised)
    texts, known = Texts(tokens=pictures(2)[1]), Known(picture, pixels.expand(16, 16))
    with torch.no_grad():
        diffusion.complete(loaded.parts, start, texts, known, options, CONTEXT)
    assert len(seen) == 9 and max(seen) < 1e-3


@pytest.mark.slow
def test_an_enlarged_picture_keeps_its_means(run: Run, tmp_path: Path) -> None:
    small = np.stack([np.full((4, 4), 220), np.full((4, 4), 30), noisy(4)[..., 0] // 4], axis=2)
    given = Given(png(tmp_path / "small.png", small))
    large = draw.sample(run, ["a red square"], n=2, seed=0, options={"steps": "4"}, given=given).astype(int)
    means = large.reshape(2, 4, 4, 4, 4, 3).mean(axis=(2, 4))
    assert np.abs(means - small).max() <= 0.75
    assert large[0].std(axis=(0, 1)).min() > 1 and (large[0] != large[1]).any()


@pytest.mark.slow
def test_a_picture_comes_back_from_its_noise(run: Run, tmp_path: Path) -> None:
    given = Given(png(tmp_path / "red.png", np.full((16, 16, 3), (230, 25, 25))), text="a red square")
    settings, texts = {"steps": "36", "guidance": "1"}, ["a red square", "a blue square"]
    red, blue = draw.sample(run, texts, n=1, seed=0, options=settings, given=given).astype(int)
    assert np.abs(red - (230, 25, 25)).max() <= 3
    assert blue.mean(axis=(0, 1)).argmax() == 2


@pytest.mark.slow
def test_given_pictures_that_do_not_fit_are_refused(run: Run, tmp_path: Path) -> None:
    large, small, odd = (png(tmp_path / f"{side}.png", noisy(side)) for side in (16, 8, 5))
    (tmp_path / "text.png").write_text("no picture")
    refused = {
        Given(odd): "has 5 x 5 pixels; give a square one with a side of 1, 2, 4, 8 to enlarge it, or",
        Given(large): "has 16 x 16 pixels; give a square one",
        Given(large, small): "--mask .*8.png has 8 x 8 pixels; give one of 16 x 16",
        Given(small, large): "--picture .*8.png has 8 x 8 pixels; give one of 16 x 16",
        Given(small, text="a red square"): "--picture .*8.png has 8 x 8 pixels; give one of 16 x 16",
        Given(str(tmp_path / "none.png")): "none.png, which is no file; give a picture file",
        Given(str(tmp_path / "text.png")): "not a readable picture: its format is unknown; give a PNG",
    }
    for given, sentence in refused.items():
        with pytest.raises(UserError, match=sentence):
            draw.sample(run, ["a red square"], n=1, seed=0, given=given)
    with pytest.raises(UserError, match="--mask and --picture-text are two uses of --picture"):
        Given(large, small, "a red square")


def test_one_step_inverts_nothing() -> None:
    model = trainer().loaded()
    texts = Texts(tokens=pictures(1)[1])
    with pytest.raises(UserError, match="no way from a picture to its noise; give --steps 2 or more"):
        diffusion.invert(model.parts, pictures(1)[0][:, 0], texts, Options(steps=1), CONTEXT)


# Training.


@pytest.mark.slow
def test_words_decide_the_colour(trained: Trainer) -> None:
    planes, tokens, vectors = pictures(6)
    for texts, text in ((Texts(tokens=tokens), "words"), (Texts(vectors, tokens), "vector")):
        means = drawn(trained, texts, guidance=1.0, text=text).mean(dim=(2, 3))
        assert (means.argmax(dim=1) == planes[:, 0].mean(dim=(2, 3)).argmax(dim=1)).all(), text


@pytest.mark.slow
def test_right_captions_beat_shuffled_ones(trained: Trainer) -> None:
    denoiser = trained.loaded().parts[diffusion.DENOISER]
    groups = config(drop_words=0.0, drop_both=0.0, drop_vector=1.0)
    phase = diffusion.build({diffusion.DENOISER: denoiser}, groups, CONTEXT).phases[0]
    right = micro(1000, 30)
    assert right.tokens is not None
    wrong = replace(right, tokens=right.tokens.roll(1, dims=0))
    with torch.no_grad():
        losses = [float(next(phase.loss(each))["error"]) for each in (right, wrong)]
    assert losses[1] > losses[0] + 0.1


def test_texts_are_dropped_at_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = config(drop_words=0.2, drop_vector=0.5, drop_both=0.1)
    parts = diffusion.parts(groups, CONTEXT)
    denoiser, seen = parts[diffusion.DENOISER], []

    def states(tokens: Tensor, vectors: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(torch.stack([(tokens != PAD).sum(1) > 1, given], 1))
        return torch.zeros(len(tokens), 1, 32), torch.ones(len(tokens), 1, dtype=torch.bool)

    monkeypatch.setattr(denoiser.text, "forward", states)
    monkeypatch.setattr(denoiser, "forward", lambda y, *rest: torch.zeros_like(y))
    phase = diffusion.build(parts, groups, CONTEXT).phases[0]
    with torch.no_grad():
        for first in range(0, 6000, 60):
            next(phase.loss(micro(first, 60)))
    words, vector = torch.cat(seen).float().unbind(1)
    both_missing = float(((1 - words) * (1 - vector)).mean())
    assert float(words.mean()) == pytest.approx(0.9 * 0.8, abs=0.02)
    assert float(vector.mean()) == pytest.approx(0.9 * 0.5, abs=0.02)
    assert both_missing == pytest.approx(0.1 + 0.9 * 0.2 * 0.5, abs=0.02)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = trainer(), trainer()
    for _ in range(4):
        whole.step(batch())
    first = trainer()
    for _ in range(2):
        first.step(batch())
    first.save(tmp_path)
    [folder] = (tmp_path / "checkpoints").iterdir()
    resumed.restore(folder)
    for _ in range(2):
        resumed.step(batch())
    for name, module in {**whole.parts, **whole.averages}.items():
        others = {**resumed.parts, **resumed.averages}[name].state_dict()
        assert all(torch.equal(value, others[key]) for key, value in module.state_dict().items()), name


def test_micro_batches_change_nothing() -> None:
    whole, parts = trainer(), trainer()
    parts._micro = 4
    for model in (whole, parts):
        model.step(batch())
    pairs = zip(
        whole.parts[diffusion.DENOISER].parameters(),
        parts.parts[diffusion.DENOISER].parameters(),
        strict=True,
    )
    # Muon's bfloat16 products round.
    assert all(torch.allclose(a, b, atol=2e-3) for a, b in pairs)


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(trained: Trainer) -> None:
    barrier = threading.Barrier(2, timeout=60)
    gradients: dict[tuple[int, int], list[Tensor]] = {}

    class Recorded(Ranks):
        def average(self, tensors: Sequence[Tensor]) -> None:
            gradients[self.rank, self.count] = [tensor.clone() for tensor in tensors]
            if self.count == 2:
                barrier.wait()
                for tensor, one, other in zip(tensors, gradients[0, 2], gradients[1, 2], strict=True):
                    tensor.copy_((one + other) / 2)

    def step(model: Trainer) -> Trainer:
        count, whole = 12 // model.ranks.count, batch()
        rows = slice(count * model.ranks.rank, count * (model.ranks.rank + 1))
        assert whole.tokens is not None
        model.step(Batch(whole.pictures[rows], {"text": whole.vectors["text"][rows]}, whole.tokens[rows]))
        return model

    # A new network's output is zero, and so are most of its gradients.
    run_config = RunConfig("diffusion", config(), run=RunSettings())
    ranks = [Recorded(0, 1), Recorded(0, 2), Recorded(1, 2)]
    models = [Trainer(run_config, CONTEXT, each) for each in ranks]
    for model in models:
        model.parts[diffusion.DENOISER].load_state_dict(trained.parts[diffusion.DENOISER].state_dict())
    with ThreadPoolExecutor(2) as pool:
        _, *halves = step(models[0]), *pool.map(step, models[1:])

    # Their mean gradient is that of one rank, and both take the same step.
    pairs = zip(gradients[0, 1], gradients[0, 2], gradients[1, 2], strict=True)
    assert all((((b + c) / 2 - a).norm() <= 1e-4 * a.norm() + 1e-9) for a, b, c in pairs)
    assert gradients[0, 1][0].norm() > 1e-6
    states = [model.parts[diffusion.DENOISER].state_dict() for model in halves]
    assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())


def test_rates_rise_and_fall_with_images_seen() -> None:
    training = Training(batch=10, warm_up=100, decay_from=1000, decay_to=2000)
    rates = [diffusion._rate(training, n) for n in (0, 40, 90, 500, 1000, 1500, 2000, 9000)]
    assert rates == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0, 0])


def test_averages_have_their_relative_width() -> None:
    for width in (0.05, 0.1):
        keep, weights = ema.of_width(width), np.zeros(2000)
        for step in range(2000):
            weights *= keep(step, step + 1)
            weights[step] = 1 - keep(step, step + 1)
        times = (np.arange(2000) + 0.5) / 2000
        mean = (weights * times).sum()
        assert weights.sum() == pytest.approx(1)
        assert ((weights * (times - mean) ** 2).sum()) ** 0.5 == pytest.approx(width, rel=0.02)


def test_a_survey_gives_words_and_deviation() -> None:
    samples = [
        CaptionedPicture(np.full((16, 16, 3), level, np.uint8), ("A red square, 2 dots.", "a square"))
        for level in (0, 255)
    ]
    survey = diffusion.survey(config(), samples, {})
    assert survey["sigma_data"] == pytest.approx(1)
    assert survey["words"][:2] == ["a", "square"]
    assert set(survey["words"]) == {"a", "square", "red", ",", ".", "2", "dots"}


@pytest.mark.parametrize("level", [1, 7, 128])
def test_pictures_of_one_colour_have_no_deviation(level: int) -> None:
    """Rounding makes the variance of some levels negative."""
    plain = CaptionedPicture(np.full((16, 16, 3), level, np.uint8), ("a square",))
    assert diffusion.survey(config(), [plain] * 7, {})["sigma_data"] == 0


def test_words_of_a_base_keep_their_numbers_and_their_vectors() -> None:
    samples = [CaptionedPicture(np.zeros((16, 16, 3), np.uint8), ("a blue heart",))]
    survey = diffusion.survey(config(), samples, SURVEY)
    assert survey == {**SURVEY, "words": [*SURVEY["words"], "heart"]}  # type: ignore[misc]

    base = diffusion.parts(config(), CONTEXT)["denoiser"]
    larger = diffusion.parts(config(), replace(CONTEXT, survey=survey))["denoiser"]
    larger.load_state_dict(diffusion.grown(larger, base.state_dict()))
    vocabulary = diffusion.tokeniser(config(), survey)
    known, new = torch.tensor([vocabulary("a blue square")]), torch.tensor([vocabulary("a heart")])
    for theirs, ours in zip(base.text(known, None, None), larger.text(known, None, None), strict=True):  # type: ignore[operator]
        assert torch.equal(theirs, ours)
    assert int(new.max()) == len(vocabulary) - 1 and UNKNOWN not in new


def test_words_become_tokens() -> None:
    vocabulary = Vocabulary.of(["a red star", "a blue star"], most=4)
    assert vocabulary.words == ("a", "star", "blue", "red") and len(vocabulary) == 7
    assert vocabulary("A Red moon!") == [BEGIN, 3, 6, UNKNOWN] and vocabulary("") == [BEGIN]


# Layers.


def test_attention_can_be_read_and_changed() -> None:
    torch.manual_seed(0)
    layer, x, context = Attention(64, 32), torch.randn(2, 5, 64), torch.randn(2, 4, 32)
    torch.nn.init.normal_(layer.out.weight)
    present = torch.tensor([[True, True, False, False], [True] * 4])
    plain, seen = layer(x, context, present), []

    def read(weights: Tensor, place: AttentionLayer) -> Tensor:
        seen.append(weights)
        return weights

    layer.control = read
    assert torch.equal(layer(x, context, present), plain)
    assert seen[0].shape == (2, 2, 5, 4) and torch.allclose(seen[0].sum(-1), torch.ones(2, 2, 5))
    assert not seen[0][0, :, :, 2:].any()
    layer.control = lambda weights, place: torch.full_like(weights, 0.25)
    assert not torch.allclose(layer(x, context, present), plain)


def test_updates_of_muon_are_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 8), (2, 16, 8), (2, 8, 24)):
        values = torch.linalg.svdvals(muon.orthogonal(torch.randn(shape)).float())
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_muon_takes_matrices_and_adamw_the_rest() -> None:
    parts = diffusion.parts(config(), CONTEXT)
    optimiser = diffusion.build(parts, config(), CONTEXT).optimisers[diffusion.DENOISER]
    by_muon, others = (group["params"] for group in optimiser.param_groups)
    assert min(p.ndim for p in by_muon) == 2
    assert len(by_muon) + len(others) == len(list(parts[diffusion.DENOISER].parameters()))
    assert (
        len(diffusion.build(parts, config(muon_lr=0.0), CONTEXT).optimisers[diffusion.DENOISER].param_groups)
        == 1
    )


# Handing a model over.


@pytest.mark.soak
def test_onnx_runtime_denoises_as_torch_does(trained: Trainer) -> None:
    import onnxruntime

    loaded = trained.loaded()
    session = onnxruntime.InferenceSession(onnx_file.of(loaded))
    denoiser = cast(Denoiser, loaded.parts[diffusion.DENOISER])
    for count, tokens in ((1, pictures(1)[1]), (3, pictures(3)[1][:, :2])):
        noised, vectors = torch.randn(count, 3, 16, 16), pictures(count)[2]
        sigma, given = torch.linspace(0.1, 3, count), torch.arange(count) % 2 == 0
        inputs = {"noised": noised, "sigma": sigma, "tokens": tokens, "vectors": vectors, "given": given}
        [denoised] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            expected = denoiser.denoised(noised, sigma, *denoiser.text(tokens, vectors, given))
        assert np.abs(denoised - expected.numpy()).max() < 1e-4


@pytest.mark.slow
def test_its_one_file_draws_the_same_pictures_of_words(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(handover.source_of("diffusion"))
    spec = importlib.util.spec_from_file_location("handed_over", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["handed_over"] = module
    spec.loader.exec_module(module)
    loaded = trained.loaded()
    drawer = module.Drawer(module, loaded.config, loaded.parts, CONTEXT)
    texts = drawer.texts(["a red square", "a blue square"])
    theirs = drawer.draw(texts, seed=3, steps=3)
    ours = draw.texts_of(loaded, ["a red square", "a blue square"], None, "cpu")
    drawing = draw.drawing(loaded, ours, seed=3, options={"steps": "3"})
    assert torch.allclose(theirs, drawing.images(range(2)), rtol=0, atol=1e-4)


IMPOSSIBLE: dict[str, tuple[type, dict[str, object]]] = {
    "side": (Sizes, {"resolution": 20}),
    "reads": (Sizes, {"reads": (5,)}),
    "itself": (Sizes, {"itself": (32,)}),
    "channels": (Sizes, {"reads": (), "itself": (), "channels": (20, 40)}),
    "planes": (Sizes, {"latents": "runs/kl", "planes": 1 << 17}),
    "formulation": (Noise, {"formulation": "ode"}),
    "levels": (Noise, {"least": 2.0, "most": 1.0}),
    "least of ddpm": (Noise, {"formulation": "ddpm", "least": 15.0}),
    "most of ddpm": (Noise, {"formulation": "ddpm", "most": 0.025}),
    "mean": (Noise, {"mean": 100.0}),
    "deviation": (Noise, {"deviation": 11.0}),
    "drop": (Training, {"drop_both": 2.0}),
    "decay": (Training, {"decay_from": 5, "decay_to": 4}),
    "steps": (Options, {"steps": 0}),
    "sampler": (Options, {"sampler": "rk"}),
    "guidance": (Options, {"guidance": -1.0}),
    "text": (Options, {"text": "song"}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_settings_are_refused(name: str) -> None:
    kind, settings = IMPOSSIBLE[name]
    with pytest.raises(ValueError, match=rf"(?=.*\b{next(reversed(settings))}\b).* (must|may) "):
        kind(**settings)
