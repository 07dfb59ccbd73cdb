import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from synth.errors import UserError
from train import checkpoint, runs
from train.checkpoint import Origin
from train.models import losses, stylegan2
from train.models.latents import draw_latents, draw_path_noise
from train.models.losses import Judgement, LossConfig
from train.models.stylegan2_networks import Discriminator, Generator, Sizes

TINY = Sizes(
    resolution=8,
    text_dim=8,
    z_dim=16,
    w_dim=32,
    text_width=32,
    mapping_layers=2,
    channel_base=256,
    channel_max=32,
)
SIXTEENTH = Sizes(
    resolution=32, text_dim=32, z_dim=32, w_dim=32, text_width=32, channel_base=2048, channel_max=32
)  # of 256 px's widths


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def embeddings(count: int, width: int) -> Tensor:
    return functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(1)), dim=1)


def pictures(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1


def networks(sizes: Sizes) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    g, d = Generator(sizes), Discriminator(sizes)
    for name, parameter in g.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return g, d


def judged(d: Discriminator, images: Tensor, h: Tensor) -> Judgement:
    score, meaning = d(images)
    return Judgement(score, meaning, h)


def generated(g: Generator, h: Tensor, numbers: range) -> Tensor:
    latents = draw_latents(g.sizes, 0, 0, numbers)
    return g(latents.z, h, cutoff=latents.cutoff, noise=latents.noise)


def test_parameters_of_the_full_size() -> None:
    def millions(sizes: Sizes, kind: type[Generator] | type[Discriminator]) -> float:
        with torch.device("meta"):
            return sum(p.numel() for p in kind(sizes).parameters()) / 1e6

    full = Sizes()
    assert millions(full, Discriminator) == pytest.approx(29.13, abs=0.005)
    assert millions(full, Generator) == pytest.approx(49.17, abs=0.005)
    assert millions(replace(full, style="w"), Generator) == pytest.approx(45.00, abs=0.005)
    assert millions(replace(full, style="w", resolution=64), Generator) == pytest.approx(38.06, abs=0.005)
    assert millions(replace(full, resolution=64), Discriminator) == pytest.approx(26.75, abs=0.005)


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128, 256, 512])
def test_every_resolution_gives_its_pictures_and_takes_them(side: int) -> None:
    config = replace(TINY, resolution=side, channel_base=max(side, 64), channel_max=16)
    g, d = networks(config)
    assert sum(s**2 for s in config.noise_sides) == config.noise_size
    images = g(torch.randn(2, 16), embeddings(2, 8))
    score, meaning = d(images)
    assert (images.shape, score.shape, meaning.shape) == ((2, 3, side, side), (2,), (2, 8))


def test_sizes_that_make_no_model_are_refused() -> None:
    for wrong in ({"resolution": 48}, {"style": "s"}, {"mapping_layers": 0}, {"channel_base": 4}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(TINY, **wrong)


@pytest.mark.parametrize("style", ["stylespace", "w"])
def test_gradients_reach_every_parameter(style: str) -> None:
    g, d = networks(replace(TINY, style=style))
    h, config = embeddings(8, 8), LossConfig(contrastive_group=8)
    sum(
        losses.generator_losses(config, judged(d, generated(g, h, range(8)), h), None).values(),
        torch.zeros(()),
    ).backward()
    for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("style", ["stylespace", "w"])
def test_captions_change_every_layer(style: str) -> None:
    """Styles of each modulated layer, for the same latent and two captions."""
    g, _ = networks(replace(TINY, style=style))
    seen: list[Tensor] = []
    for module in [*g.synthesis.conv_styles, *g.synthesis.colour_styles]:
        module.register_forward_hook(lambda _module, _inputs, u: seen.append(u))
    g(torch.zeros(2, 16), embeddings(2, 8))
    assert len(seen) == 5
    assert all((u[0] - u[1]).abs().mean() > 0.05 for u in seen)


def test_a_stylespace_style_is_the_papers() -> None:
    """u = B [A w ; c], weights scaled by 1 / sqrt(fan in)."""
    g, _ = networks(TINY)
    w, code, style = torch.randn(3, 32), torch.randn(3, 32), g.synthesis.conv_styles[0]
    a, b = (dict(style.named_parameters())[f"{name}.weight"] for name in ("unconditional", "conditional"))
    s = w @ a.t() / math.sqrt(32)
    assert torch.allclose(style(w, code), torch.cat([s, code], 1) @ b.t() / 8 + 1, atol=1e-5)


def test_condition_codes_are_two_layers_of_each_layers_own() -> None:
    g, _ = networks(TINY)
    codes, h = g.synthesis.codes, embeddings(3, 8)
    for i, code in enumerate(codes(h)):
        first = codes.first.weight[32 * i : 32 * (i + 1)]
        hidden = math.sqrt(2) * functional.leaky_relu(h @ first.t() * 0.01 / math.sqrt(8), 0.2)
        assert torch.allclose(
            code,
            math.sqrt(2) * functional.leaky_relu(hidden @ codes.weight[i] * 0.01 / math.sqrt(32), 0.2),
            atol=1e-5,
        )


def test_mixing_takes_the_first_latent_below_the_cutoff() -> None:
    g, _ = networks(SIXTEENTH)
    z = torch.randn(3, 2, 32)
    ws, first, second = g.latents(z, torch.tensor([1, 5, 8])), g.latents(z[:, 0]), g.latents(z[:, 1])
    assert ws.shape == (3, 8, 32)
    for i, cutoff in enumerate((1, 5, 8)):
        assert torch.allclose(ws[i, :cutoff], first[i, :cutoff], atol=1e-5)
        assert torch.allclose(ws[i, cutoff:], second[i, cutoff:], atol=1e-5)


def test_the_scale_of_z_does_not_matter() -> None:
    g, _ = networks(TINY)
    z = torch.randn(2, 16)
    assert torch.allclose(g.latents(z), g.latents(7 * z), atol=1e-5)


def test_without_noise_of_its_own_a_picture_has_the_fixed_one() -> None:
    g, _ = networks(TINY)
    z, h = torch.randn(2, 16), embeddings(2, 8)
    assert torch.equal(g(z, h), g(z, h, noise=dict(g.named_buffers())["fixed_noise"].expand(2, -1)))
    assert not torch.allclose(g(z, h), g(z, h, noise=torch.randn(2, TINY.noise_size)))


def gradients(config: LossConfig, pieces: list[range]) -> dict[str, Tensor]:
    """Returns the gradients of all terms except the path length's, summed over micro-batches."""
    g, d = networks(TINY)
    h, real = embeddings(16, 8), pictures(16, 8)
    for piece in pieces:
        rows = slice(piece.start, piece.stop)
        fake, taken = generated(g, h[rows], piece), real[rows].clone().requires_grad_()
        seen = judged(d, taken, h[rows])
        terms = [
            *losses.generator_losses(config, judged(d, fake, h[rows]), None).values(),
            *losses.real_losses(config, seen).values(),
        ]
        terms.append(losses.gradient_penalty(seen.logits(config), taken).mean())
        (sum(terms, torch.zeros(())) * len(piece) / 16).backward()
    return {name: p.grad for name, p in [*g.named_parameters(), *d.named_parameters()] if p.grad is not None}


@pytest.mark.parametrize("projection", ["sample", "batch_sum"])
def test_micro_batches_add_up_to_the_batch(projection: str) -> None:
    config = LossConfig(contrastive_group=8, projection=projection)
    whole, pieces = gradients(config, [range(16)]), gradients(config, [range(8), range(8, 16)])
    for name, gradient in whole.items():
        assert (gradient - pieces[name]).abs().max() <= 1e-4 * gradient.abs().max() + 1e-7, name


def test_path_lengths_are_those_of_an_explicit_jacobian() -> None:
    g, _ = networks(TINY)
    h, noise = embeddings(2, 8), draw_path_noise(TINY, 0, 1, range(2))
    ws = g.latents(torch.randn(2, 16)).detach().requires_grad_()
    lengths = losses.path_lengths(g.synthesise(ws, h), ws, noise)

    def picture(w: Tensor) -> Tensor:
        return g.synthesise(w[None], h[:1])[0]

    jacobian = torch.autograd.functional.jacobian(picture, ws[0])  # (3, 8, 8, L, W)
    products = torch.einsum("chw,chwlk->lk", noise[0] / 8, jacobian)
    assert lengths[0].item() == pytest.approx(products.square().sum(1).mean().sqrt().item(), rel=1e-4)


def test_the_path_penalty_reaches_the_weights_as_finite_differences_say() -> None:
    g, _ = networks(TINY)
    g.double()
    h, z = embeddings(2, 8).double(), torch.randn(2, 16).double()
    noise = draw_path_noise(TINY, 0, 1, range(2)).double()
    weight = dict(g.named_parameters())["synthesis.convs.0.weight"]

    def penalty() -> Tensor:
        ws = g.latents(z)
        images = g.synthesise(ws, h, dtype=torch.float64)
        return losses.path_penalty(losses.path_lengths(images, ws, noise), torch.tensor(0.1)).mean()

    (exact,) = torch.autograd.grad(penalty(), weight)
    values = []
    for change in (1e-2, -2e-2):
        weight.data[0, 1, 2, 2] += change
        values.append(penalty().item())
    assert exact[0, 1, 2, 2].item() == pytest.approx((values[0] - values[1]) / 2e-2, rel=1e-2)


def test_bfloat16_is_float32_but_for_rounding() -> None:
    g, d = networks(SIXTEENTH)
    h, z = embeddings(8, 32), torch.randn(8, 32)
    exact, rounded = g(z, h), g(z, h, dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert (exact - rounded).std() < 0.03 * exact.std()
    real = pictures(8, 32)
    penalties = []
    for dtype in (torch.float32, torch.bfloat16):
        x = real.clone().requires_grad_()
        penalties.append(losses.gradient_penalty(d(x, dtype=dtype)[0], x))
    assert torch.allclose(penalties[0], penalties[1], rtol=0.1)


# Style, projection, contrast -> G: adversarial, cond. D: adversarial on fake and on real pictures, cond.
# Means of R1's norm and of path lengths.
GOLDEN = {
    ("stylespace", "sample", "softmax"): (1.2031, 6.9082, 0.4002, 0.73848, 6.889, 0.0046602, 0.87014),
    ("w", "sample", "softmax"): (0.43957, 6.8836, 1.5126, 0.72493, 6.9516, 0.0071432, 0.7818),
    ("stylespace", "batch_sum", "softmax"): (3.4907, 6.9082, 0.031584, 1.0901, 6.889, 0.68472, 0.87014),
    ("stylespace", "sample", "sharpened"): (1.2031, 17.361, 0.4002, 0.73848, 17.218, 0.0046602, 0.87014),
    ("w", "batch_sum", "sharpened"): (0.00017702, 17.248, 8.6618, 0.78739, 17.375, 1.1834, 0.7818),
}


@pytest.mark.parametrize("switches", GOLDEN)
def test_first_losses_of_every_switch(switches: tuple[str, str, str]) -> None:
    style, projection, contrast = switches
    config = LossConfig(projection=projection, contrast=contrast)
    g, d = networks(replace(SIXTEENTH, style=style))
    h, real = embeddings(16, 32), pictures(16, 32).requires_grad_()
    fake, seen = judged(d, generated(g, h, range(16)), h), judged(d, real, h)
    terms = [
        losses.generator_losses(config, fake, None),
        losses.fake_losses(config, fake),
        losses.real_losses(config, seen),
    ]
    values = [value.item() for term in terms for value in term.values()]
    values.append(losses.gradient_penalty(seen.logits(config), real).mean().item())
    latents = draw_latents(g.sizes, 0, 0, range(16))
    ws = g.latents(latents.z, latents.cutoff)
    images = g.synthesise(ws, h, noise=latents.noise)
    values.append(losses.path_lengths(images, ws, draw_path_noise(g.sizes, 0, 1, range(16))).mean().item())
    assert values == pytest.approx(GOLDEN[switches], rel=1e-3)


def saved(path: Path, generator: Generator) -> None:
    """Writes a generator as a checkpoint has it."""
    checkpoint.save_part(
        path, generator, Origin("stylegan2", stylegan2.Config(generator.sizes), {}, stylegan2.GENERATOR)
    )


def test_a_generator_comes_back_from_one_file(tmp_path: Path) -> None:
    g, _ = networks(replace(TINY, style="w"))
    z, h = torch.randn(2, 16), embeddings(2, 8)
    saved(tmp_path / "generator.safetensors", g)
    again = runs.load_part(tmp_path / "generator.safetensors")
    assert isinstance(again, Generator) and again.sizes == g.sizes
    assert torch.equal(again(z, h), g(z, h))


def test_the_readmes_three_lines_draw_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        (Path(__file__).parent.parent / "train/models/README.md")
        .read_text()
        .split("```python\n")[1]
        .split("```")[0]
    )
    saved(tmp_path / "generator.safetensors", networks(TINY)[0])
    monkeypatch.chdir(tmp_path)
    names = {"z": torch.randn(2, 16), "h": embeddings(2, 8)}
    exec(code, names)
    assert names["images"].shape == (2, 3, 8, 8)
    assert len(code.replace("\n\n", "\n").splitlines()) == 3


def test_a_file_of_something_else_is_no_part_of_a_model(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is no part of a model: its metadata names none"):
        runs.load_part(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    with pytest.raises(UserError, match="is no readable safetensors file"):
        runs.load_part(tmp_path / "text.safetensors")


def halves(side: int) -> Tensor:
    """Eight pictures: two halves apart along eight directions, each in one colour: (8, 3, side, side)."""
    line = torch.linspace(-1, 1, side)
    turns = torch.arange(8) * math.pi / 4
    split = (
        turns.cos()[:, None, None] * line + turns.sin()[:, None, None] * line[:, None]
    ).sign()  # (8, side, side)
    colours = torch.where(torch.arange(8)[:, None] % 3 == torch.arange(3), 0.8, -0.3)
    return split[:, None] * colours[:, :, None, None]


@pytest.mark.soak
def test_the_game_overfits_eight_pictures_each_by_its_caption() -> None:
    g, d = networks(TINY)
    config, h, real = LossConfig(contrastive_group=8, r1=0.1), torch.eye(8), halves(8)
    adam_g, adam_d = (
        torch.optim.Adam(m.parameters(), lr=5e-3, betas=(0.0, 0.99), fused=True) for m in (g, d)
    )

    def step(network: nn.Module, adam: torch.optim.Adam, terms: list[Tensor]) -> None:
        inputs = list(network.parameters())
        torch.stack(terms).sum().backward(inputs=inputs)
        adam.step()
        adam.zero_grad()

    for i in range(240):
        numbers = range(8 * i, 8 * i + 8)
        step(
            g,
            adam_g,
            [*losses.generator_losses(config, judged(d, generated(g, h, numbers), h), None).values()],
        )
        with torch.no_grad():
            images = generated(g, h, numbers)
        x = real.clone().requires_grad_(i % 8 == 0)
        seen = judged(d, x, h)
        terms = [
            *losses.fake_losses(config, judged(d, images, h)).values(),
            *losses.real_losses(config, seen).values(),
        ]
        if i % 8 == 0:
            terms.append(8 * config.r1 / 2 * losses.gradient_penalty(seen.logits(config), x).mean())
        step(d, adam_d, terms)
    with torch.no_grad():
        distances = (g(torch.randn(8, 16), h)[:, None] - real).square().mean((2, 3, 4))  # (generated, real)
    assert distances.argmin(1).tolist() == list(range(8))
    assert distances.diagonal().mean() < 0.25
